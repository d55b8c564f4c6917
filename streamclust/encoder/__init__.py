"""Vector quantization of live feeds by any number of encoders: each entry gets its codes once."""
