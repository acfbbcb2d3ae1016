"""Joint training of router and decoders."""
