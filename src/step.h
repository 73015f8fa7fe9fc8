/*
 * step.h
 *
 * Drawing together what is to be done at one moment.  Plain C.
 */
#ifndef WFX_MT4_STEP_H
#define WFX_MT4_STEP_H

#include <stdint.h>

extern double step_after(double seconds, double jitter, double now, uint32_t number);

#endif							/* WFX_MT4_STEP_H */
