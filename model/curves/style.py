"""Colours and markers of charts, shared by matplotlib and Vega-Lite."""

# Okabe and Ito's colours and a dark red, which colour-blind readers can tell apart. Conditions
# differ in marker too. 7 colours share no divisor with 9 markers, shapes or hatches, nor with 4
# dashes, so 7 × 9 = 63 conditions have a pair of colour and marker of their own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
GREY = "#444444"
# For a dark page: the same hues, lighter, and the grey of lines and words.
DARK_COLOURS = ("#4FA8DE", "#F0803C", "#2DBE95", "#E29CC2", "#F2BC4B", "#9AD4F7", "#CF6A94")
DARK_GREY = "#B4BAC2"
# The same shapes for matplotlib and for Vega. Vega has no star; the last one is its outline.
MARKERS = ("o", "s", "^", "D", "P", "v", ">", "<", "*")
SHAPES = (
    *("circle", "square", "triangle-up", "diamond", "cross"),
    *("triangle-down", "triangle-right", "triangle-left"),
    "M0.00,-1.00L0.25,-0.34L0.95,-0.31L0.40,0.13L0.59,0.81L0.00,0.42"
    "L-0.59,0.81L-0.40,0.13L-0.95,-0.31L-0.25,-0.34Z",
)
