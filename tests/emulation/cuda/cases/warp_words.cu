// What the lanes of two warps tell each other: eight words a thread.
__global__ void talk(const int* in, int* out) {
  const int i = threadIdx.x, x = in[i];
  int* const mine = out + 8 * i;
  mine[0] = __shfl_sync(0xffffffff, x, 5);
  mine[1] = __shfl_xor_sync(0xffffffff, x, 3);
  mine[2] = __shfl_down_sync(0xffffffff, x, 2);
  mine[3] = __shfl_up_sync(0xffffffff, x, 2, 8);
  mine[4] = int(__ballot_sync(0xffffffff, x % 3 == 0));
  mine[5] = __any_sync(0xffffffff, x == 40) * 2 + __all_sync(0xffffffff, x < 32);
  mine[6] = 0;
  if (i % 32 < 8) mine[6] = __shfl_sync(0x000000ff, x, 7);
  mine[7] = 0;
}

extern "C" int warp_words(const int* in, int* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, talk, in, out);
}
