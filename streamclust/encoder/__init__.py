"""Vector quantization of live feeds. Many encoders can share a feed; each entry is coded once."""
