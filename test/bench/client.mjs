// client.mjs
//
// What a person would write in Node.js to synchronise all accounts: a pool of
// connections that are kept, and writes in batches of 500, while other requests run.
// It reads the integrations, asks, decodes, and writes the same three tables as floor.c.
//
//	node client.mjs OPTIONS CONNINFO
//
//	-c NUMBER	requests in flight (64)
//	-r ROUNDS	how often all is done (1)
//	-p CPU		the processor for this process and its backend
//
// Prints for each round seconds, microseconds of processor time of itself, all threads
// of it, and of its backend, and peak kB.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import { parseArgs } from 'node:util';

const BATCH = 500;
const { values: options, positionals } = parseArgs({
	allowPositionals: true,
	options: { c: { type: 'string', default: '64' }, r: { type: 'string', default: '1' }, p: { type: 'string' } },
});
// the harness has installed them there
const require = createRequire(`${process.env.WORK}/node/`);
const { Pool } = require('undici');
const { Client } = require('pg');

const inFlight = Number(options.c);
const settings = Object.fromEntries([...positionals[0].matchAll(/(\w+)=('[^']*'|\S+)/g)]
	.map(([, name, value]) => [name, value.replace(/^'|'$/g, '')]));
const db = new Client({ host: settings.host, port: Number(settings.port), database: settings.dbname, user: os.userInfo().username });
const pools = new Map();

// The pool of connections to a host.
function poolOf(origin) {
	let pool = pools.get(origin);
	if (pool === undefined) {
		pool = new Pool(origin, { connections: inFlight });
		pools.set(origin, pool);
	}
	return pool;
}

async function fetchAccount(row) {
	const url = new URL(`/accounts/${row.mt4_account_id}`, row.mt4_server_endpoint);
	const { statusCode, body } = await poolOf(url.origin).request({
		path: url.pathname,
		method: 'GET',
		headers: { accept: 'application/json', authorization: `Bearer ${row.mt4_api_token}` },
	});
	if (statusCode !== 200)
		throw new Error(`${url}: ${statusCode}`);
	return body.json();
}

async function writeBatch(batch) {
	const column = (name) => batch.map(({ answer }) => answer[name]);
	const ids = batch.map(({ row }) => row.id);

	await db.query('BEGIN');
	await db.query({
		name: 'performance',
		text: `UPDATE performance_data p SET current_balance = v.b, equity = v.e, margin_level = v.m,
			trades = v.t, profit_amount = v.b - p.starting_balance,
			profit_percentage = (v.b - p.starting_balance) / p.starting_balance * 100,
			last_updated = now(), updated_at = now()
			FROM unnest($1::uuid[], $2::numeric[], $3::numeric[], $4::numeric[], $5::int[]) AS v(id, b, e, m, t)
			WHERE p.trader_id = v.id`,
		values: [batch.map(({ row }) => row.trader_id), column('balance'), column('equity'), column('marginLevel'), column('trades')],
	});
	await db.query({
		name: 'integration',
		text: `UPDATE mt4_integrations i SET sync_status = 'success', last_error = NULL, last_sync = now(),
			updated_at = now() FROM unnest($1::uuid[]) AS v(id) WHERE i.id = v.id`,
		values: [ids],
	});
	await db.query({
		name: 'history',
		text: `INSERT INTO sync_history (id, integration_id, sync_type, status, records_updated, synced_at)
			SELECT gen_random_uuid(), v.id, 'manual', 'success', 1, now() FROM unnest($1::uuid[]) AS v(id)`,
		values: [ids],
	});
	await db.query('COMMIT');
}

async function syncAll() {
	const { rows } = await db.query({
		name: 'read',
		text: `SELECT i.id, a.trader_id, i.mt4_account_id, i.mt4_api_token, i.mt4_server_endpoint
			FROM mt4_integrations i JOIN credential_assignments a USING (credential_id) WHERE i.is_active ORDER BY i.id`,
	});
	let next = 0;
	let batch = [];
	let written = Promise.resolve();

	const write = (full) => {
		written = written.then(() => writeBatch(full));
	};
	const worker = async () => {
		while (next < rows.length) {
			const row = rows[next++];
			const answer = await fetchAccount(row);
			batch.push({ row, answer });
			if (batch.length === BATCH) {
				write(batch);
				batch = [];
			}
		}
	};
	await Promise.all(Array.from({ length: Math.min(inFlight, rows.length) }, worker));
	if (batch.length > 0)
		write(batch);
	await written;
}

// Microseconds that a process has run.
function cpuOf(pid) {
	return Number(fs.readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1000;
}

await db.connect();
const backend = (await db.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;
if (options.p !== undefined)
	for (const pid of [process.pid, backend])
		execFileSync('taskset', ['--all-tasks', '--cpu-list', '--pid', options.p, String(pid)]);
for (let round = 0; round < Number(options.r); round++) {
	const used = cpuOf(backend);
	const own = process.cpuUsage();
	const start = performance.now();

	await syncAll();
	const seconds = (performance.now() - start) / 1000;
	const { user, system } = process.cpuUsage(own);
	console.log(seconds.toFixed(6), user + system, Math.round(cpuOf(backend) - used), process.resourceUsage().maxRSS);
}
await db.end();
await Promise.all([...pools.values()].map((pool) => pool.close()));
