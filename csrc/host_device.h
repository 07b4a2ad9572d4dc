// Functions that CPU and GPU share are marked with this.
#pragma once

#if defined(__CUDACC__) || defined(__HIPCC__)
#define SSLK_HOST_DEVICE __host__ __device__
#else
#define SSLK_HOST_DEVICE
#endif
