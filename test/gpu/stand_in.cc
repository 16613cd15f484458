// A CUDA runtime without a device, to be preloaded: memory is the host's, zeroed; a launch is only counted.
// What is not here and not needed for an answer is a function that returns 0 (see stand_in.py).
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

static const size_t MEMORY = size_t(80) << 30;
static int something;       // where streams and events point

static cudaError_t allocate(void **place, size_t size) {
    *place = calloc(size ? size : 1, 1);
    return *place ? cudaSuccess : cudaErrorMemoryAllocation;
}

// The device's memory: as `allocate`, within $STAND_IN_MEMORY bytes if that is set.
struct Device {
    std::mutex lock;
    std::map<void *, size_t> sizes;
    size_t used = 0;
    cudaError_t take(void **place, size_t size) {
        std::lock_guard<std::mutex> held(lock);
        const char *limit = getenv("STAND_IN_MEMORY");
        if (limit && used + size > strtoull(limit, nullptr, 10)) return cudaErrorMemoryAllocation;
        cudaError_t status = allocate(place, size);
        if (status == cudaSuccess) used += sizes[*place] = size;
        return status;
    }
    cudaError_t give(void *place) {
        std::lock_guard<std::mutex> held(lock);
        auto found = sizes.find(place);
        if (found != sizes.end()) used -= found->second, sizes.erase(found);
        free(place);
        return cudaSuccess;
    }
};
static Device &device() { static Device all; return all; }

static cudaError_t copy(void *to, const void *from, size_t size) {
    memmove(to, from, size);
    return cudaSuccess;
}

// What a search for a convolution's algorithm answers: one, of no further qualities.
template <class Result> static cudnnStatus_t found(int *count, Result *result) {
    memset(result, 0, sizeof *result);
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
}

// Counts the device functions launched, and writes their number to the file that STAND_IN_REPORT names.
struct Launches {
    std::mutex lock;
    std::set<const void *> functions;
    size_t count = 0;
    cudaError_t add(const void *function) {
        std::lock_guard<std::mutex> held(lock);
        functions.insert(function);
        count++;
        return cudaSuccess;
    }
    ~Launches() {
        const char *path = getenv("STAND_IN_REPORT");
        if (FILE *f = path ? fopen(path, "w") : nullptr) {
            fprintf(f, "%zu %zu\n", functions.size(), count);
            fclose(f);
        }
    }
};
static Launches &launches() { static Launches all; return all; }

extern "C" {

// ---- device ----------------------------------------------------------------------------------------------
cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    memset(p, 0, sizeof *p);
    const char *arch = getenv("cuda_archs");
    int number = arch ? atoi(arch) : 90;
    strcpy(p->name, "stand-in");
    p->major = number / 10;
    p->minor = number % 10;
    p->multiProcessorCount = 132;
    p->maxThreadsPerBlock = 1024;
    p->warpSize = 32;
    p->totalGlobalMem = MEMORY;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
    cudaDeviceProp p;
    cudaGetDeviceProperties(&p, 0);
    *value = attribute == cudaDevAttrMaxThreadsPerBlock ? p.maxThreadsPerBlock
        : attribute == cudaDevAttrMultiProcessorCount ? p.multiProcessorCount
        : attribute == cudaDevAttrComputeCapabilityMajor ? p.major
        : attribute == cudaDevAttrComputeCapabilityMinor ? p.minor : 1;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t) { return "an error of the stand-in"; }
const char *cudaGetErrorName(cudaError_t) { return "stand-in"; }

// ---- memory ----------------------------------------------------------------------------------------------
cudaError_t cudaMalloc(void **p, size_t size) { return device().take(p, size); }
cudaError_t cudaMallocHost(void **p, size_t size) { return allocate(p, size); }
cudaError_t cudaHostAlloc(void **p, size_t size, unsigned) { return allocate(p, size); }
cudaError_t cudaMallocManaged(void **p, size_t size, unsigned) { return allocate(p, size); }
cudaError_t cudaMallocAsync(void **p, size_t size, cudaStream_t) { return allocate(p, size); }
cudaError_t cudaFree(void *p) { return device().give(p); }
cudaError_t cudaFreeHost(void *p) { free(p); return cudaSuccess; }
cudaError_t cudaFreeAsync(void *p, cudaStream_t) { free(p); return cudaSuccess; }
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind) { return copy(to, from, n); }
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind, cudaStream_t) {
    return copy(to, from, n);
}
cudaError_t cudaMemset(void *p, int value, size_t n) { memset(p, value, n); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t) { return cudaMemset(p, value, n); }
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) { *free = *total = MEMORY; return cudaSuccess; }

// ---- launches, streams, events ---------------------------------------------------------------------------
void **__cudaRegisterFatBinary(void *) { static void *handle; return &handle; }
cudaError_t cudaLaunchKernel(const void *function, dim3, dim3, void **, size_t, cudaStream_t) {
    return launches().add(function);
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) {
    *kernel = (cudaKernel_t)function;
    return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void **, size_t, cudaStream_t) {
    return launches().add(kernel);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *, const void *function, void **) {
    return launches().add(function);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void *data) {
    function(data);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) { *s = (cudaStream_t)&something; return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) { return cudaStreamCreate(s); }
cudaError_t cudaEventCreate(cudaEvent_t *e) { *e = (cudaEvent_t)&something; return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) { return cudaEventCreate(e); }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, const void *) {
    memset(a, 0, sizeof *a);
    a->maxThreadsPerBlock = 1024;
    cudaDeviceProp p;
    cudaGetDeviceProperties(&p, 0);
    a->binaryVersion = a->ptxVersion = 10 * p.major + p.minor;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *, int, size_t) {
    *n = 2;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *, int, size_t,
        unsigned) {
    *n = 2;
    return cudaSuccess;
}

// ---- cuDNN -----------------------------------------------------------------------------------------------
const char *cudnnGetErrorString(cudnnStatus_t) { return "an error of the stand-in"; }
#define TENSOR cudnnTensorDescriptor_t
#define FILTER cudnnFilterDescriptor_t
#define CONV cudnnConvolutionDescriptor_t
cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(cudnnHandle_t, TENSOR, const void *, FILTER,
        const void *, CONV, TENSOR, void *, int, int *count, cudnnConvolutionFwdAlgoPerf_t *result,
        void *, size_t) {
    return found(count, result);
}
cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(cudnnHandle_t, FILTER, const void *, TENSOR,
        const void *, CONV, TENSOR, void *, int, int *count, cudnnConvolutionBwdDataAlgoPerf_t *result,
        void *, size_t) {
    return found(count, result);
}
cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(cudnnHandle_t, TENSOR, const void *, TENSOR,
        const void *, CONV, FILTER, void *, int, int *count, cudnnConvolutionBwdFilterAlgoPerf_t *result,
        void *, size_t) {
    return found(count, result);
}
// From the hundredth size on Jittor asks for cuDNN's advice and does not search any more.
cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, TENSOR, FILTER, CONV, TENSOR, int,
        int *count, cudnnConvolutionFwdAlgoPerf_t *result) {
    return found(count, result);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, FILTER, TENSOR, CONV, TENSOR, int,
        int *count, cudnnConvolutionBwdDataAlgoPerf_t *result) {
    return found(count, result);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, TENSOR, TENSOR, CONV, FILTER, int,
        int *count, cudnnConvolutionBwdFilterAlgoPerf_t *result) {
    return found(count, result);
}
cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, TENSOR, FILTER, CONV, TENSOR,
        cudnnConvolutionFwdAlgo_t, size_t *size) {
    *size = 0;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, FILTER, TENSOR, CONV, TENSOR,
        cudnnConvolutionBwdDataAlgo_t, size_t *size) {
    *size = 0;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, TENSOR, TENSOR, CONV, FILTER,
        cudnnConvolutionBwdFilterAlgo_t, size_t *size) {
    *size = 0;
    return CUDNN_STATUS_SUCCESS;
}
}
