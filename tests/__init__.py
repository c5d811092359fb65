"""The tests of Ranvier; the folders mirror `src/ranvier`, `zoo` holds the models they compile."""
