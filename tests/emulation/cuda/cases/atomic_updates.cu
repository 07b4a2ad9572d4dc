// Of all threads of three blocks: sum, least, largest, bits, and how many came first.
__global__ void update(const int* in, int* out) {
  const int x = in[blockIdx.x * blockDim.x + threadIdx.x];
  atomicAdd(out, x);
  atomicMin(out + 1, x);
  atomicMax(out + 2, x);
  atomicOr(out + 3, x);
  if (atomicCAS(out + 4, 0, 1) == 0) atomicAdd(out + 5, 1);
}

extern "C" int atomic_updates(const int* in, int* out) {
  const cudaLaunchConfig_t config = {3, 40};
  return cudaLaunchKernelEx(&config, update, in, out);
}
