"""The vendor's board package as far as it is documented, without an NPU behind it.

Models are compiled files as the real one takes; its outputs are all of one value.
"""

import struct
from pathlib import Path

import numpy as np

from runtime.rknn_file import read_rknn

OPEN = []
"""Every object that was made and not yet released."""


class RKNNLite:
    NPU_CORE_AUTO = 0
    NPU_CORE_0 = 1
    NPU_CORE_1 = 2
    NPU_CORE_2 = 4

    value = 0.0

    def __init__(self, verbose=False, verbose_file=None):
        self._data = self._shapes = None
        OPEN.append(self)

    def load_rknn(self, path):
        """0 for any file, whatever is in it."""
        if not Path(path).is_file():
            return -1
        self._data = Path(path).read_bytes()
        return 0

    def init_runtime(self, core_mask=NPU_CORE_AUTO):
        """-1 for a file that is no model, or a newer format than the runtime's."""
        if self._data[:4] != b"RKNN" or struct.unpack_from("<Q", self._data, 8)[0] > 6:
            return -1
        self._shapes = [output.shape for output in read_rknn(self._data, Path()).outputs]
        return 0

    def inference(self, inputs, data_format=None, inputs_pass_through=None):
        """None where something is wrong."""
        picture = inputs[0]
        if self._shapes is None or data_format != ["nhwc"]:
            return None
        if picture.ndim != 4 or picture.dtype != np.uint8 or not picture.any():
            return None
        return [np.full(shape, self.value, np.float32) for shape in self._shapes]

    def release(self):
        """The real one must not be released twice."""
        OPEN.remove(self)
