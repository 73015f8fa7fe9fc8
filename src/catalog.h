/*
 * catalog.h
 *
 * The application's tables and the providers, as they were found.
 */
#ifndef WFX_MT4_CATALOG_H
#define WFX_MT4_CATALOG_H

#include "db.h"
#include "wfx_mt4.h"

/* The tables of the SQL contract, section 2; a sync writes those from performance on. */
typedef enum CatalogTable
{
	TABLE_TRADERS,
	TABLE_CREDENTIALS,
	TABLE_ASSIGNMENTS,
	TABLE_PERFORMANCE,
	TABLE_INTEGRATIONS,
	TABLE_HISTORY,
	TABLE_SNAPSHOTS
} CatalogTable;

#define CATALOG_TABLES (TABLE_SNAPSHOTS + 1)

typedef struct CatalogColumn
{
	char	   *name;
	char	   *type;			/* as format_type() writes it */
	Oid			typid;
} CatalogColumn;

/* Where the tables are, as found when the catalog was opened. */
typedef struct Catalog
{
	char	   *extension_schema;	/* quoted */
	Oid			extension_owner;
	struct
	{
		char	   *name;		/* quoted, with its schema */
		Oid			relid;
		Oid			owner;
		int			n_columns;
		CatalogColumn *columns;
	}			tables[CATALOG_TABLES];
	int			n_providers;
	WfxProvider *providers;
} Catalog;

extern const char *catalog_obstacle(bool *restored);
extern Catalog *catalog_open(void);
extern Catalog *catalog_find(void);
extern void catalog_read_providers(Catalog *catalog);
extern void catalog_close(Catalog *catalog);
extern const char *catalog_table_name(CatalogTable table);
extern Oid	catalog_owner(const Catalog *catalog, CatalogTable table);
extern void catalog_lock_table(const Catalog *catalog, CatalogTable table);
extern void catalog_lock_tables(const Catalog *catalog, CatalogTable first);
extern DbRows *catalog_foreign_code(const Catalog *catalog, CatalogTable first);
extern void catalog_check_code(const Catalog *catalog, CatalogTable first);
extern char *catalog_sql(const Catalog *catalog, const char *template);
extern const WfxProvider *catalog_provider(const Catalog *catalog, const char *name, const char *host);

#endif							/* WFX_MT4_CATALOG_H */
