"""The outline of the cup in scikit-image's photograph `coffee.png` (CC0).

The points were set by hand on the photograph enlarged four to seven times. The saucer
and the spoon are outside; where the spoon lies in front of the cup, the outline runs
along the spoon. The opening of the handle is too narrow to see through.

```python
points = np.array(OUTLINE)  # float64 [n, 2]: x to the right, y downwards
```
"""

PHOTO_NAME = "coffee.png"
"""The file's name in the `data` folder of scikit-image."""

OUTLINE: tuple[tuple[float, float], ...] = (
    # Rim, from the left over the top to the right.
    (172.5, 112.1),
    (173.0, 101.6),
    (175.6, 88.6),
    (180.3, 75.6),
    (188.7, 62.5),
    (199.1, 50.8),
    (212.1, 40.4),
    (227.8, 31.3),
    (246.0, 24.0),
    (264.2, 19.8),
    (282.5, 18.0),
    (300.7, 18.2),
    (319.0, 21.1),
    (337.2, 26.8),
    (354.2, 34.9),
    (368.5, 44.3),
    (381.5, 56.0),
    (392.0, 68.3),
    (399.8, 80.8),
    (405.0, 95.1),
    (407.1, 109.5),
    # Right side, downwards.
    (407.3, 125.1),
    (406.5, 140.7),
    (404.5, 156.4),
    (401.1, 169.4),
    (395.9, 185.0),
    (390.6, 196.8),
    (385.4, 205.9),
    (381.5, 212.4),
    # Along the spoon.
    (374.2, 221.5),
    (368.5, 230.6),
    (362.0, 237.7),
    (354.2, 242.9),
    (346.3, 247.1),
    (338.5, 252.3),
    (332.0, 258.5),
    # Foot, to the left.
    (325.7, 267.9),
    (318.6, 272.9),
    (312.9, 276.6),
    (302.9, 282.1),
    (292.9, 285.0),
    (282.9, 286.0),
    (270.0, 285.0),
    (257.9, 283.1),
    # Handle.
    (250.0, 287.9),
    (241.4, 296.4),
    (232.9, 301.7),
    (223.6, 308.9),
    (217.1, 308.3),
    (208.6, 305.0),
    (202.1, 300.7),
    (197.9, 295.0),
    (196.0, 287.1),
    (196.1, 278.6),
    (198.3, 270.0),
    (202.1, 261.4),
    (207.9, 251.4),
    (214.3, 241.4),
    (218.3, 235.4),
    # Left side, upwards.
    (207.1, 228.3),
    (198.6, 219.7),
    (191.4, 209.3),
    (185.7, 198.9),
    (180.8, 177.2),
    (176.2, 156.4),
    (173.6, 135.5),
)
"""Closed polygon of (x, y) in pixels; pixel (i, j) covers i..i+1 by j..j+1."""
