/*
 * launcher.h
 *
 * The process that keeps one worker going in each listed database.
 */
#ifndef WFX_MT4_LAUNCHER_H
#define WFX_MT4_LAUNCHER_H

#include "postgres.h"

extern void launcher_register(void);
extern PGDLLEXPORT void wfx_mt4_launcher_main(Datum arg);
extern PGDLLEXPORT void wfx_mt4_worker_main(Datum arg);

#endif							/* WFX_MT4_LAUNCHER_H */
