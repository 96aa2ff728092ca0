// All of nn.
#pragma once
#include "nn/clip.h"
#include "nn/grad_scaler.h"
#include "nn/init.h"
#include "nn/layers.h"
#include "nn/loss.h"
#include "nn/models.h"
#include "nn/module.h"
#include "nn/optim.h"
#include "nn/schedule.h"
