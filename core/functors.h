// Scalar code of the elementwise ops, written once: the CPU loops, the CUDA kernels and the fused
// kernels of both instantiate it, so fused and unfused results agree bit for bit. Read by the
// run-time CUDA compiler too, so: no standard headers beyond <math.h>, no host-only code.
//
// T is the compute type: float, double, int, long long, unsigned char or bool (the 16-bit floats
// are converted before and after). `p` holds the op's scalar parameters.
#pragma once
#include "core/half.h"
#ifndef __CUDACC_RTC__
#include <math.h>
#endif
