// The one place outside of kernels that needs CUDA's headers.
extern "C" const char* sslk_cuda_error(int code) {
  return cudaGetErrorString(static_cast<cudaError_t>(code));
}
