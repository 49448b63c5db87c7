"""placeholder"""
import numpy as np
def shows_text(pixels: np.ndarray) -> bool:
    return False
