// A CUDA runtime without a device, to be preloaded: memory is the host's, zeroed; a launch is only counted.
// What is not here and not needed for an answer is a function that returns 0 (see stand_in.py).
// In the environment:
//   STAND_IN_MEMORY    bytes of the device, 80 GB without
//   STAND_IN_DEVICE    none: there is no device; old: the driver is older than the runtime
//   STAND_IN_LAUNCHES  fail: no kernel can be launched
//   STAND_IN_REPORT    a file to which each library that was used adds a line of JSON: what was asked for
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

static int something;       // where streams and events point

static bool set(const char *variable, const char *value) {
    const char *found = getenv(variable);
    return found && !strcmp(found, value);
}

static size_t memory() {
    const char *given = getenv("STAND_IN_MEMORY");
    return given ? strtoull(given, nullptr, 10) : size_t(80) << 30;
}

static cudaError_t allocate(void **place, size_t size) {
    *place = calloc(size ? size : 1, 1);
    return *place ? cudaSuccess : cudaErrorMemoryAllocation;
}

// The device's memory: as `allocate`, until it ends.
struct Device {
    std::mutex lock;
    std::map<void *, size_t> sizes;
    size_t used = 0;
    cudaError_t take(void **place, size_t size) {
        std::lock_guard<std::mutex> held(lock);
        if (used + size > memory()) return cudaErrorMemoryAllocation;
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

// What was asked for: device functions, their launches, searches for a convolution's algorithm, the largest
// workspace that one was given, and questions for cuDNN's advice instead.
struct Report {
    std::mutex lock;
    std::set<const void *> functions;
    size_t launches = 0, searches = 0, workspace = 0, advice = 0;
    int sums = -1, math = -1;           // of the convolution that was described last
    cudaError_t last = cudaSuccess;
    cudaError_t launch(const void *function) {
        std::lock_guard<std::mutex> held(lock);
        if (set("STAND_IN_LAUNCHES", "fail")) return last = cudaErrorInvalidConfiguration;
        functions.insert(function);
        launches++;
        return cudaSuccess;
    }
    ~Report() {
        const char *path = getenv("STAND_IN_REPORT");
        if (FILE *f = path ? fopen(path, "a") : nullptr) {
            fprintf(f, "{\"functions\": %zu, \"launches\": %zu, \"searches\": %zu, \"workspace\": %zu, "
                    "\"advice\": %zu}\n", functions.size(), launches, searches, workspace, advice);
            fclose(f);
        }
    }
};
static Report &report() { static Report all; return all; }

// An algorithm of no further qualities.
template <class Result> static cudnnStatus_t algorithm(int *count, Result *result) {
    memset(result, 0, sizeof *result);
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
}
template <class Result> static cudnnStatus_t searched(int *count, Result *result, size_t workspace) {
    report().searches++;
    report().workspace = std::max(report().workspace, workspace);
    return algorithm(count, result);
}
template <class Result> static cudnnStatus_t advised(int *count, Result *result) {
    report().advice++;
    return algorithm(count, result);
}
// One algorithm wants an eighth of the device for itself, which Jittor's own rule would allow.
template <class Algorithm> static cudnnStatus_t wanted(Algorithm algorithm, Algorithm greedy, size_t *size) {
    *size = algorithm == greedy ? memory() / 8 : 0;
    return CUDNN_STATUS_SUCCESS;
}

extern "C" {
size_t stand_in_searches() { return report().searches; }
size_t stand_in_advice() { return report().advice; }
size_t stand_in_workspace() { return report().workspace; }
size_t stand_in_sums() { return report().sums; }
size_t stand_in_math() { return report().math; }

// ---- device ----------------------------------------------------------------------------------------------
cudaError_t cudaGetDeviceCount(int *count) {
    if (set("STAND_IN_DEVICE", "old")) return cudaErrorInsufficientDriver;      // and *count stays as it was
    *count = !set("STAND_IN_DEVICE", "none");
    return *count ? cudaSuccess : cudaErrorNoDevice;
}
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
    p->totalGlobalMem = memory();
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
const char *cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
        : error == cudaErrorInvalidConfiguration ? "cudaErrorInvalidConfiguration" : "stand-in";
}
cudaError_t cudaGetLastError(void) {
    cudaError_t error = report().last;
    report().last = cudaSuccess;
    return error;
}

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
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    *total = memory();
    *free = *total - device().used;
    return cudaSuccess;
}

// ---- launches, streams, events ---------------------------------------------------------------------------
void **__cudaRegisterFatBinary(void *) { static void *handle; return &handle; }
cudaError_t cudaLaunchKernel(const void *function, dim3, dim3, void **, size_t, cudaStream_t) {
    return report().launch(function);
}
#if CUDART_VERSION >= 12010
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) {
    *kernel = (cudaKernel_t)function;
    return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void **, size_t, cudaStream_t) {
    return report().launch(kernel);
}
#endif
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *, const void *function, void **) {
    return report().launch(function);
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
cudnnStatus_t cudnnSetConvolutionNdDescriptor(CONV, int, const int *, const int *, const int *,
        cudnnConvolutionMode_t, cudnnDataType_t sums) {
    report().sums = sums;
    report().math = CUDNN_DEFAULT_MATH;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(CONV, cudnnMathType_t math) {
    report().math = math;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(cudnnHandle_t, TENSOR, const void *, FILTER,
        const void *, CONV, TENSOR, void *, int, int *count, cudnnConvolutionFwdAlgoPerf_t *result,
        void *, size_t workspace) {
    return searched(count, result, workspace);
}
cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(cudnnHandle_t, FILTER, const void *, TENSOR,
        const void *, CONV, TENSOR, void *, int, int *count, cudnnConvolutionBwdDataAlgoPerf_t *result,
        void *, size_t workspace) {
    return searched(count, result, workspace);
}
cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(cudnnHandle_t, TENSOR, const void *, TENSOR,
        const void *, CONV, FILTER, void *, int, int *count, cudnnConvolutionBwdFilterAlgoPerf_t *result,
        void *, size_t workspace) {
    return searched(count, result, workspace);
}
// Beyond the size of its cache Jittor asks for cuDNN's advice and does not search any more.
cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, TENSOR, FILTER, CONV, TENSOR, int,
        int *count, cudnnConvolutionFwdAlgoPerf_t *result) {
    return advised(count, result);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, FILTER, TENSOR, CONV, TENSOR, int,
        int *count, cudnnConvolutionBwdDataAlgoPerf_t *result) {
    return advised(count, result);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, TENSOR, TENSOR, CONV, FILTER, int,
        int *count, cudnnConvolutionBwdFilterAlgoPerf_t *result) {
    return advised(count, result);
}
cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, TENSOR, FILTER, CONV, TENSOR,
        cudnnConvolutionFwdAlgo_t algorithm, size_t *size) {
    return wanted(algorithm, CUDNN_CONVOLUTION_FWD_ALGO_FFT, size);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, FILTER, TENSOR, CONV, TENSOR,
        cudnnConvolutionBwdDataAlgo_t algorithm, size_t *size) {
    return wanted(algorithm, CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT, size);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, TENSOR, TENSOR, CONV, FILTER,
        cudnnConvolutionBwdFilterAlgo_t algorithm, size_t *size) {
    return wanted(algorithm, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT, size);
}
}
