// Augmentation on a GPU. Functions return a cudaError_t.
#pragma once

#include "draws.h"
#include "views.h"

// As augment::draw, with sample_ids and rows on the current device, numbers on the host.
extern "C" int sslk_cuda_augment_draws(const int64_t* sample_ids, int64_t batch,
                                       const double* numbers, int64_t views, uint64_t seed,
                                       int64_t epoch, int64_t height, int64_t width, float* rows,
                                       void* stream);

// Whether the kernel takes such images: one channel or three.
inline bool sslk_cuda_augment_takes(int64_t channels) { return channels == 1 || channels == 3; }

// Bytes of memory on the device that a call needs beside its tensors, or minus a cudaError_t.
extern "C" int64_t sslk_cuda_augment_workspace(const sslk::augment::Views* call);

// As augment::augment_forward, with images, draws, out and workspace on the current device, mean
// and std on the host. A view whose row of draws does not fit becomes NaN.
extern "C" int sslk_cuda_augment_forward(const sslk::augment::Views* call, void* out,
                                         const sslk::augment::Layout* layout, void* workspace,
                                         void* stream);

// As augment::augment_backward, with images, draws, grad, gradient and workspace on the current
// device, std on the host. An image becomes NaN that has a view whose row of draws does not fit.
extern "C" int64_t sslk_cuda_augment_backward_workspace(const sslk::augment::Views* call);
extern "C" int sslk_cuda_augment_backward(const sslk::augment::Views* call, const void* grad,
                                          void* gradient, void* workspace, void* stream);
