"""The `.rvr` file: format, writer and validating reader. Neither compiles nor runs."""
