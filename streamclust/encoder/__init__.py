"""Vector quantization of live feeds: the codes of each entry, written once, by any number."""
