"""Speed of Ranvier beside other engines: `python -m benchmarks.peers --help`."""
