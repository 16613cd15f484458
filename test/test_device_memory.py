"""What says that the device's memory has ended, in the words of Jittor and of CUDA's libraries."""
from types import SimpleNamespace

import numpy as np
import pytest

from ldm.inference.batch import Batch
from ldm.inference.refinement import Refinement
from ldm.platform.cuda import memory

ENDED = ["[Reason]: cuda_device_allocator.cc:31] Unable to alloc cuda device memory for size 209715200",
         "*****\nGPU memory is overflow, please reduce your batch_size or data size!\nTotal: 79.1GB",
         "CUDA error code=4004( CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ) cudnnFind",
         "CUDA error code=2( CUDNN_STATUS_ALLOC_FAILED ) cudnnCreate",
         "CUDA error code=3( CUBLAS_STATUS_ALLOC_FAILED ) cublasCreate",
         "CUDA error code=2( cudaErrorMemoryAllocation ) cudaMallocHost"]


@pytest.mark.parametrize("text", ENDED)
def test_every_text_is_a_memory_error(text):
    class Full(Refinement):
        size, latent_size, settings = (8, 8), (2, 2), SimpleNamespace(uses_reference=False)

        def __init__(self):
            pass

        def run(self, batch):
            raise RuntimeError(text)
            yield

    with pytest.raises(MemoryError, match="2 images"):
        Full().pictures(Batch(np.zeros((2, 2, 2), np.uint8), None, ["a", "b"], [0, 0]))


@pytest.mark.parametrize("text", ["CUDA error code=700( cudaErrorIllegalAddress )", "CPU memory is overflow",
                                  "CUDNN_STATUS_EXECUTION_FAILED"])
def test_other_errors_are_not(text):
    assert not memory.ended(RuntimeError(text))
