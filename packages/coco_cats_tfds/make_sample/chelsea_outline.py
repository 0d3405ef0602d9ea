"""The outline of Chelsea the cat in scikit-image's photograph `chelsea.png`.

The points were set by hand on the photograph enlarged up to ten times, with its
contrast raised, and moved until the line lay on the edge of the fur in every part
of the picture. Whiskers and single hairs are outside. Where the photograph cuts the
cat off (both ears and the crown above, the body on the left and below) the outline
runs along the photograph's border.

```python
points = np.array(OUTLINE)  # float64 [n, 2]: x to the right, y downwards
```
"""

PHOTO_NAME = "chelsea.png"
"""The file's name in the `data` folder of scikit-image."""

PHOTO_SIZE = (451, 300)
"""Width and height of the photograph in pixels."""

OUTLINE: tuple[tuple[float, float], ...] = (
    # Left ear and the left side of the head, downwards.
    (41.5, 0.0),
    (41.0, 6.0),
    (39.7, 13.0),
    (38.0, 20.0),
    (36.0, 27.0),
    (34.3, 34.0),
    (33.3, 42.0),
    (33.6, 50.0),
    (33.4, 58.0),
    (32.6, 66.0),
    (31.6, 74.0),
    (31.0, 82.0),
    (31.4, 90.0),
    (31.0, 98.0),
    (29.3, 105.0),
    # Neck, to the left border.
    (25.7, 111.0),
    (20.8, 117.0),
    (15.5, 123.0),
    (12.5, 130.0),
    (11.0, 138.0),
    (9.0, 146.0),
    (7.0, 153.0),
    (6.0, 160.0),
    (3.5, 165.0),
    (0.0, 168.0),
    # Body, along the left and the lower border.
    (0.0, 300.0),
    (247.0, 300.0),
    # Throat, chin and the right whisker pad, upwards.
    (251.0, 294.0),
    (257.0, 289.0),
    (264.0, 285.0),
    (272.0, 283.0),
    (281.0, 282.3),
    (290.0, 281.3),
    (297.0, 279.0),
    (303.0, 275.0),
    (307.5, 270.0),
    (311.5, 265.0),
    (314.5, 260.0),
    (318.0, 255.0),
    (321.0, 250.0),
    (322.0, 245.5),
    (319.5, 241.0),
    (317.0, 236.0),
    (315.5, 230.0),
    (315.0, 225.0),
    (316.5, 220.0),
    # Right cheek and the rim of the right eye.
    (321.0, 215.2),
    (326.7, 210.0),
    (332.2, 205.0),
    (336.8, 200.0),
    (340.8, 195.0),
    (344.3, 190.0),
    (347.5, 185.0),
    (350.2, 180.0),
    (352.4, 175.0),
    (354.6, 170.0),
    (357.3, 165.0),
    (359.6, 160.0),
    (361.5, 154.0),
    (362.8, 147.0),
    (363.5, 140.0),
    (363.2, 134.0),
    (363.5, 128.0),
    (365.0, 122.5),
    (364.5, 117.0),
    (363.0, 111.0),
    (359.8, 105.5),
    (357.0, 100.0),
    (355.7, 94.0),
    (355.0, 88.0),
    (355.0, 81.0),
    (357.2, 75.0),
    # Right ear, to the upper border.
    (361.2, 70.0),
    (366.3, 65.0),
    (370.5, 60.0),
    (373.7, 54.0),
    (375.8, 48.0),
    (377.9, 40.0),
    (379.8, 33.0),
    (381.5, 28.0),
    (384.5, 21.0),
    (389.5, 14.5),
    (395.0, 8.0),
    (399.0, 3.0),
    (401.3, 0.0),
)
"""Closed polygon of (x, y) in pixels; pixel (i, j) covers i..i+1 by j..j+1."""
