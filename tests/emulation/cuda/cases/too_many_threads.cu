__global__ void nothing() {}

extern "C" int too_many_threads() {
  const cudaLaunchConfig_t config = {1, 2048};
  return cudaLaunchKernelEx(&config, nothing);
}
