// All of data.
#pragma once
#include "data/augment.h"
#include "data/cifar.h"
#include "data/dataset.h"
#include "data/idx.h"
#include "data/loader.h"
#include "data/mnist.h"
#include "data/synthetic.h"
