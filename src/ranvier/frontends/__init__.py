"""Front ends: a model of a framework becomes a Graph. Only they import frameworks."""
