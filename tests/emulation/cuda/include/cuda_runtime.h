// In place of NVIDIA's header, included before a .cu file as nvcc does it.
#pragma once

#include "emulated/atomics.h"
#include "emulated/host.h"
#include "emulated/language.h"
#include "emulated/warp.h"
