"""Plans over a toolbox: written by a language model or by hand, shown, edited, then run."""
