"""A synthetic vivarium: radiometric rats and mice in a box, seen from above, with the truth beside the picture."""
