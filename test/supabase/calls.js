// Makes calls with @supabase/supabase-js and prints what came of each: an array of
// {status, data, error}.  The calls are a JSON array on the standard input:
//   {"as": ROLE, "rpc": FUNCTION, "args": {...}}
//   {"as": ROLE, "from": TABLE, "select": COLUMNS, "eq": [COLUMN, VALUE], "order": COLUMN}
//   {"as": ROLE, "from": TABLE, "insert" | "update": {...}, "select": ..., "eq": ...}
//   {"as": ROLE, "from": TABLE, "delete": true, "eq": ...}
const fs = require('node:fs');
const { createClient } = require('@supabase/supabase-js');
const ws = require('ws');

const clients = {};

function client(role) {
	clients[role] ??= createClient(process.env.URL, process.env.JWT_ANON, {
		accessToken: async () => process.env['JWT_' + role.toUpperCase()],
		realtime: { transport: ws },
	});
	return clients[role];
}

function query(call) {
	const db = client(call.as);
	if (call.rpc)
		return db.rpc(call.rpc, call.args ?? {});
	let q = db.from(call.from);
	if (call.insert)
		q = q.insert(call.insert);
	else if (call.update)
		q = q.update(call.update);
	else if (call.delete)
		q = q.delete();
	if (call.select)
		q = q.select(call.select);
	if (call.eq)
		q = q.eq(...call.eq);
	if (call.order)
		q = q.order(call.order, { ascending: false });
	return q;
}

async function main() {
	const answers = [];
	for (const call of JSON.parse(fs.readFileSync(0, 'utf8'))) {
		const { status, data, error } = await query(call);
		answers.push({ status, data, error });
	}
	console.log(JSON.stringify(answers));
	process.exit(0);
}

main();
