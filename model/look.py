"""How charts look, in matplotlib and in Vega-Lite alike."""

# Okabe and Ito's colours, told apart by colour-blind readers; conditions also differ in marker.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
GREY = "#444444"
# The same hues, lighter, and the grey of lines and words on a dark page.
DARK_COLOURS = ("#4FA8DE", "#F0803C", "#2DBE95", "#E29CC2")
DARK_GREY = "#B4BAC2"
