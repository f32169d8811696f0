"""Tools for developers: assets, the sample's generator, benchmarks; not in the wheel."""
