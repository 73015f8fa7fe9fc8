/*
 * queue.h
 *
 * Which integration is to be asked next: by time, by origin (scheme, host and
 * port), people's wishes first, and around origins that do not answer.  Memory
 * only; knows no table and no network.
 */
#ifndef WFX_MT4_QUEUE_H
#define WFX_MT4_QUEUE_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

typedef struct DueQueue DueQueue;

/* Limits that hold for all of it. */
typedef struct QueueLimits
{
	int			per_origin;		/* in flight at once; 0: see queue_take() */
	int			total;
	double		retry_base_s;	/* between two probes of a silent origin: first */
	double		retry_cap_s;	/* and longest */
} QueueLimits;

/* What became of an integration, as far as its origin is concerned. */
typedef enum QueueOutcome
{
	QUEUE_NOT_SENT,				/* nothing was asked */
	QUEUE_ANSWERED,
	QUEUE_DOUBTFUL,				/* the origin, or this account there, does not work */
	QUEUE_SILENT				/* the origin does not answer */
} QueueOutcome;

extern DueQueue *queue_create(MemoryContext context, const QueueLimits *limits);
extern void queue_put(DueQueue *queue, const pg_uuid_t *id, TimestampTz due, const char *origin);
extern void queue_drop(DueQueue *queue, const pg_uuid_t *id);
extern int	queue_take(DueQueue *queue, TimestampTz now, int max, pg_uuid_t *ids);
extern const char *queue_done(DueQueue *queue, const pg_uuid_t *id, QueueOutcome outcome, TimestampTz now);
extern void queue_spread(DueQueue *queue, const char *name, TimestampTz now, double within_s);
extern pg_uuid_t *queue_of_origin(DueQueue *queue, const char *origin, int *n);
extern void queue_forget_origins(DueQueue *queue, TimestampTz now);
extern TimestampTz queue_next(DueQueue *queue, TimestampTz now);
extern int64 queue_due(DueQueue *queue, TimestampTz now);
extern const char *queue_silent(DueQueue *queue, TimestampTz now);

#endif							/* WFX_MT4_QUEUE_H */
