// Uses the administration page as people do, in Chromium; test/t/140_console.pl starts the
// stack and reads what is printed: "ok NAME" or "not ok NAME", and details after a tab.
//
// Environment: URL, the gateway; JWT_ROLE, tokens; PROVIDER, where the stand-in listens; SHOTS,
// a directory for pictures; SECOND, how many ms it may have; PG*, for psql.
'use strict';

const { execFileSync } = require('child_process');
const fs = require('fs');
const { chromium } = require('playwright-core');

const { URL: GATEWAY, PROVIDER, SHOTS } = process.env;
const API = `${GATEWAY}/rest/v1`;
const PAGE = `${API}/rpc/wfx_mt4_console`;
const TOKEN = 'token-that-nobody-may-see';
const HOSTILE = '<img src=x onerror="document.title=\'owned\'">';
const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const SIZES = [[1280, 860], [390, 844]];

const CHROMIUM = {
	executablePath: '/usr/bin/chromium',
	args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
		'--disable-background-networking', '--disable-component-update'],
};

let browser;
let page;
let complaints = [];			// what the browser says about scripts, and about our policy

// ------------------------------------------------------------------ Helpers

function check(good, name, ...details) {
	const text = details.map((d) => JSON.stringify(d)).join(' ');

	console.log(`${good ? 'ok' : 'not ok'} ${name}${good ? '' : `\t${text}`}`);
}

function is(got, expected, name) {
	check(got === expected, name, { got, expected });
}

// Runs a statement as a superuser and returns what psql prints.
function sql(statement) {
	return execFileSync('psql', ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-c', statement, 'postgres'], { encoding: 'utf8' }).trim();
}

// Waits until something is so; false when it does not become so in time.
async function until(condition, seconds = 8) {
	const end = Date.now() + seconds * 1000;

	while (Date.now() < end) {
		if (await condition()) return true;
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
	return false;
}

// A condition on the page, for what it names.
async function sees(selector, text, name, seconds) {
	const found = page.locator(selector).filter({ hasText: text }).first();

	check(await until(() => found.isVisible(), seconds), name, selector, String(text),
		await page.locator(selector).allInnerTexts().catch(() => []));
}

// Runs a part of the test; one that breaks is a failure, and the others still run.
async function part(name, work) {
	const started = Date.now();

	try {
		await work();
	} catch (e) {
		check(false, name, e.stack.split('\n').slice(0, 8));
		await shot(`broken-${name.replace(/\W+/g, '-')}`).catch(() => {});
		await page.unrouteAll().catch(() => {});
		await page.evaluate(() => document.querySelectorAll('dialog[open]').forEach((d) => d.close())).catch(() => {});
	}
	console.error(`${name}: ${Date.now() - started} ms`);
}

const shot = (name) => page.screenshot({ path: `${SHOTS}/${name}.png` });

// A tab of its own, as a person who comes anew.
async function visit(url, options) {
	const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });

	context.setDefaultTimeout(10000);
	page = await context.newPage();
	page.on('pageerror', (e) => complaints.push(e.message));
	page.on('console', (m) => {
		if (/Content Security Policy|Trusted|(?:Type|Reference)Error/i.test(m.text())) complaints.push(m.text());
	});
	await page.goto(url);
}

async function leave() {
	await page.context().close();
}

async function signIn(role) {
	await page.click('#account-button');
	await page.fill('#jwt', process.env[`JWT_${role.toUpperCase()}`]);
	await page.click('#sign-in button.primary');
	await page.locator('#sign-in').waitFor({ state: 'hidden' });
	await page.locator('#integrations tbody tr').first().waitFor();
}

const row = (text) => page.locator('#integrations tbody tr').filter({ hasText: text });
const manage = (text) => row(text).getByRole('button', { name: /^Manage/ }).click();
const close = (dialog) => page.locator(`#${dialog} [data-close]`).first().click();
const idOf = (account) => sql(`SELECT id FROM mt4_integrations WHERE mt4_account_id = '${account}'`);

// Searches in a list to choose from, which selects the only one that is found.
async function choose(search, select, text) {
	await page.fill(search, text);
	await page.waitForFunction(([selector, wanted]) => {
		const { options, selectedIndex } = document.querySelector(selector);

		return options.length === 1 && selectedIndex === 0 && options[0].text.includes(wanted);
	}, [select, text]);
}

// Has the page refresh now: it would do so soon.
const again = () => page.evaluate(() => window.dispatchEvent(new Event('online')));

// Answers calls of one function in place of the API; undo() ends it.
async function instead(name, answer) {
	const pattern = `**/rpc/${name}`;

	await page.route(pattern, answer);
	return () => page.unroute(pattern);
}

// Calls a function as the administrator, without the page.
async function call(name, args) {
	const response = await fetch(`${API}/rpc/${name}`, {
		method: 'POST', body: JSON.stringify(args),
		headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${process.env.JWT_SERVICE_ROLE}` },
	});

	return response.json();
}

// Changes a setting of a role and waits until PostgREST follows it; undo() takes it back.
async function configure(role, setting, value, condition) {
	sql(`ALTER ROLE ${role} SET ${setting} = '${value}'; NOTIFY pgrst, 'reload config'`);
	check(await until(condition, 20), `PostgREST follows ${setting}`);
	return () => sql(`ALTER ROLE ${role} RESET ${setting}; NOTIFY pgrst, 'reload config'`);
}

// ---------------------------------------------------------------- The parts

async function withoutSignIn() {
	const started = Date.now();

	await visit(PAGE);
	await page.locator('#board tbody tr').first().waitFor();
	check(Date.now() - started < 3000, 'PostgREST serves the page, and anybody sees the leaderboard');
	is(await page.locator('#tab-leaderboard').getAttribute('aria-selected'), 'true', 'it opens with the leaderboard');
	const [digits, shown] = await page.locator('#board tbody tr').filter({ hasText: 'Exact Digits' })
		.locator('td[data-label=Balance] span').first().evaluate((e) => [e.title, e.textContent]);
	is(digits, '1234567890123.123456789', 'the title has every digit of an amount');
	is(shown, '1,234,567,890,123.12', 'what is shown is rounded');
	await sees('#board .curve svg', '', 'a curve is drawn');
	await page.click('#tab-monitoring');
	await sees('#monitoring .explain', 'Sign in', 'what takes a sign-in says so');
	is(await page.locator('#integrations').isVisible(), false, 'and shows nothing else');
	await page.click('#monitoring .explain button');
	await page.fill('#jwt', 'not a token');
	await page.click('#sign-in button.primary');
	await sees('#sign-in output', 'not a JWT', 'what is not a JWT is refused at once');
	is(await page.inputValue('#jwt'), '', 'and does not stay in its field');
	await page.fill('#jwt', process.env.JWT_ORGANISER.replace(/.{6}$/, 'AAAAAA'));
	await page.click('#sign-in button.primary');
	await sees('#sign-in output', 'refuses this sign-in', 'a JWT that somebody else signed is refused by the API');
	await instead('*', (route) => route.fulfill({ status: 200, json: { hello: 1 } }));
	await page.fill('#jwt', process.env.JWT_ORGANISER);
	await page.click('#sign-in button.primary');
	await sees('#sign-in output', 'is not the API', 'what is another API is not signed in to');
	await leave();
}

async function asAnybody() {
	await visit(PAGE);
	await page.click('#account-button');
	await page.fill('#jwt', process.env.JWT_AUTHENTICATED);
	await page.click('#sign-in button.primary');
	await sees('#monitoring .explain', "wfx_mt4_grant('authenticated', 'operate')", 'a role of the level read is told what it lacks');
	await page.evaluate((kept) => sessionStorage.setItem('wfx_mt4.session', kept), JSON.stringify({ base: API, jwt: process.env.JWT_EXPIRED }));
	await page.reload();
	await sees('#banner', /has expired. Sign in again\.S/, 'who comes with an expired JWT is told so, and not of what was seen');
	is(await page.locator('#monitoring table:visible').count(), 0, 'and sees no table that looks empty');
	await leave();
}

async function asOrganiser() {
	await visit(PAGE);
	await signIn('organiser');
	await sees('[data-lacks]', 'organiser', 'an organiser is told what takes an administrator');
	is(await page.locator('#link-open').isVisible(), false, 'and has no button that he may not use');
	await manage('Amara');
	is(await page.locator('#account-unlink').isVisible(), false, 'nor in the dialog of an account');
	await close('account');
	await page.click('#tab-credentials');
	await sees('#credentials .explain', "wfx_mt4_grant('organiser', 'admin')", 'credentials are explained too');
	await leave();
}

async function monitoring() {
	await sees('#worker', 'Worker running', 'the state of the worker');
	is(await page.locator('#tiles button').first().locator('b').innerText(), sql('SELECT count(*) FROM mt4_integrations'), 'the tiles count');
	await sees('#integrations tbody tr', 'Enter a new token', 'an error comes with what to do');
	await page.click('#tiles [data-status=error]');
	check(await until(async () => await page.locator('#integrations tbody tr').count() === 2), 'a tile filters',
		await page.locator('#integrations tbody').innerText());
	is(await page.locator('#tiles [data-status=error]').getAttribute('aria-pressed'), 'true', 'and says that it does');
	is(await page.inputValue('#filter'), 'error', 'as does the list beside it');
	await page.click('#tiles [data-status=error]');
	await page.fill('#search', 'bence');
	check(await until(async () => await page.locator('#integrations tbody tr').count() === 1), 'the search narrows');
	await page.fill('#search', 'nobody has this name');
	await sees('#integrations .explain', 'Nothing matches', 'nothing found is said');
	await page.click('#integrations .explain button');
	await sees('#integrations tbody tr', 'Amara', 'and one button shows all again');
	await sees('#recent tbody tr', 'Automatic', 'recent syncs are listed');
}

async function hostileText() {
	await sees('#integrations tbody tr', HOSTILE, 'a name that is markup is shown as text');
	await sees('#integrations .problem', HOSTILE, 'so is an error that is markup');
	is(await page.locator('img').count(), 0, 'and no element came of it');
	is(await page.title(), 'Competition console', 'nor did a script run');
}

async function syncing() {
	const id = idOf('50001');
	const manual = `SELECT count(*) FROM sync_history WHERE integration_id = '${id}' AND sync_type = 'manual'`;

	await row('Amara').getByRole('button', { name: 'Sync Amara Okafor' }).click();
	await sees('.toast', 'Amara Okafor: synced', 'one account is synced, and its result told');
	is(sql(manual), '1', 'as what a person asked for');
	await row('Wrong Token').getByRole('button', { name: /^Sync/ }).click();
	await sees('.toast.bad', 'HTTP 401', 'a failure is told with its reason');
	sql(`UPDATE mt4_integrations SET is_active = false WHERE mt4_account_id = '50008'`);
	await page.click('#sync-all');
	await sees('#run', /\d+ of \d+ done/, 'all are synced, and how far that is, is seen');
	await sees('.toast', '7 of 8 accounts succeeded', 'and when it is done; one that failed before it was paused does not count', 20);
	sql(`UPDATE mt4_integrations SET is_active = true WHERE mt4_account_id = '50008'`);
	is(sql(`SELECT count(DISTINCT integration_id) = (SELECT count(*) FROM mt4_integrations WHERE is_active)
		FROM sync_history WHERE sync_type = 'manual'`), 't', 'every account was asked for');
	is(await page.locator('#run').isVisible(), false, 'the progress goes away');
}

async function managing() {
	const id = idOf('50002');
	const active = `SELECT is_active FROM mt4_integrations WHERE id = '${id}'`;

	await manage('Bence');
	await sees('#account-recent tbody tr', 'Automatic', 'the dialog of an account has its own syncs');
	is(await page.locator('#account-recent tbody tr').count(),
		Number(sql(`SELECT least(count(*), 10) FROM sync_history WHERE integration_id = '${id}'`)), 'and only those');
	await page.click('#account-pause');
	await sees('#account output', 'Paused', 'an account is paused');
	is(sql(active), 'f', 'in the table too');
	await sees('#account-facts', 'Paused', 'its state says so');
	await page.click('#account-pause');
	await sees('#account output', 'Resumed', 'and resumed');
	is(sql(active), 't', 'in the table too');

	await page.click('#account summary');
	await page.fill('#token', 'two words');
	await page.click('#token-form button');
	await sees('#account output', 'token', 'a token that cannot be one is refused with its reason');
	await page.fill('#token', TOKEN);
	await page.click('#token-form button');
	await sees('#account output', 'was replaced', 'a token is replaced');
	is(sql(`SELECT mt4_api_token FROM mt4_integrations WHERE id = '${id}'`), TOKEN, 'in the table');
	is(await page.inputValue('#token'), '', 'and gone from its field');
	await page.click('#account-sync');
	await sees('#account output', 'Bence Toth: synced', 'a sync from there is told there');

	for (const [name, body, button] of [['set_active', false, 'pause'], ['request_sync', 0, 'sync']]) {
		const undo = await instead(`wfx_mt4_${name}`, (route) => route.fulfill({ status: 404, json: body }));

		await page.click(`#account-${button}`);
		await sees('#account output', 'unlinked meanwhile', `${name} of an account that is gone says so`);
		await undo();
	}

	await page.click('#account-unlink');
	await page.locator('#confirm [data-close]').click();
	is(sql(`SELECT count(*) FROM mt4_integrations WHERE id = '${id}'`), '1', 'to unlink is asked about, and may be refused');
	await page.click('#account-unlink');
	await page.click('#confirm-yes');
	await sees('.toast', 'Bence Toth: unlinked', 'an account is unlinked');
	is(sql(`SELECT count(*) FROM mt4_integrations WHERE id = '${id}'`), '0', 'in the table');
	check(await until(async () => await row('Bence').count() === 0), 'and gone from the list');
}

async function linking() {
	const count = 'SELECT count(*) FROM mt4_integrations';
	const before = sql(count);

	await page.click('#link-open');
	await choose('#link-search', '#link-credential', 'Bence');
	await page.fill('#link-account', '60001~balance-2000.5');
	await page.fill('#link-endpoint', PROVIDER);
	await page.fill('#link-token', 'wrong');
	await page.click('#link-test');
	await sees('#link output', 'HTTP 401', 'a connection that fails is tested before anything is saved');
	await page.fill('#link-token', TOKEN);
	await page.click('#link-test');
	await sees('#link output', 'balance 2,000.50', 'one that works shows the account');
	is(sql(count), before, 'neither has saved anything');
	await page.fill('#link-endpoint', 'not an address');
	await page.click('#link button.primary');
	await sees('#link output', 'Endpoint: ', 'a field that is refused is named');
	await page.fill('#link-endpoint', PROVIDER);
	await page.check('input[name=platform][value=mt5]');
	await page.fill('#link-provider', 'bridge');
	await page.click('#link button.primary');
	await sees('.toast', 'of Bence Toth is linked', 'an account is linked');
	is(sql(`SELECT concat_ws(' ', mt4_api_token, mt4_platform, mt4_provider, mt4_server_endpoint) FROM mt4_integrations
		WHERE mt4_account_id LIKE '60001%'`), `${TOKEN} mt5 bridge ${PROVIDER}`, 'with what was entered');
	await sees('#integrations tbody tr:has-text("Bence Toth")', 'Success', 'and is synced by itself');
	await page.click('#link-open');
	is(await page.inputValue('#link-token'), '', 'the form is empty when it is opened again');
	await close('link');
	const kept = await page.evaluate(() => document.documentElement.outerHTML + JSON.stringify([localStorage, sessionStorage]) +
		[...document.querySelectorAll('input')].map((e) => e.value).join());
	is(kept.includes(TOKEN), false, 'the token is nowhere in the page, nor stored');
	is(await page.evaluate(() => JSON.stringify(localStorage).includes('eyJ')), false, 'the JWT is in no storage that lasts');
}

async function credentials() {
	await page.click('#tab-credentials');
	await sees('#waiting tbody tr', 'Nora Lind', 'traders without a credential are listed');
	await page.click('#upload-open');
	await page.fill('#up-number', '70001');
	await page.fill('#up-user', 'nora');
	await page.fill('#up-password', 'hidden');
	await page.fill('#up-broker', 'A Broker');
	await page.click('#upload button.primary');
	await sees('#upload output', 'assigned to Nora Lind', 'a credential is uploaded, and goes to who has waited longest');
	is(sql(`SELECT concat_ws(' ', account_username, account_password, broker) FROM trading_credentials WHERE account_number = '70001'`),
		'nora hidden A Broker', 'with what was entered');
	is(await page.inputValue('#up-password'), '', 'the password is gone from its field');
	await page.fill('#up-number', '70001');
	await page.click('#upload button.primary');
	await sees('#upload output', 'User name: it must not be empty', 'a field that lacks its value is named');
	is(await page.evaluate(() => `${document.activeElement.id} ${document.activeElement.getAttribute('aria-invalid')}`), 'up-user true',
		'marked, and gone to');
	await page.fill('#up-user', 'other');
	await page.fill('#up-password', 'x');
	await page.click('#upload button.primary');
	await sees('#upload output', 'exists already', 'the same account number again is refused');
	await close('upload');

	await page.fill('#credential-search', '70001');
	await sees('#credential-list tbody tr', 'Nora Lind', 'it is found by its number');
	await page.getByRole('button', { name: 'Assign 70001' }).click();
	await choose('#assign-search', '#assign-to', 'Otto');
	await page.click('#assign button.primary');
	await sees('.toast', '70001 belongs to Otto Lang now', 'it is given to another trader');
	is(sql(`SELECT string_agg(t.full_name, ',') FROM credential_assignments a JOIN traders t ON t.id = a.trader_id
		JOIN trading_credentials c ON c.id = a.credential_id WHERE c.account_number = '70001'`), 'Otto Lang', 'and to nobody else');
	await sees('#waiting tbody tr', 'Nora Lind', 'who had it waits again');
	await page.getByRole('button', { name: 'Assign a credential to Nora Lind' }).click();
	await choose('#assign-search', '#assign-to', '70001');
	await page.click('#assign button.primary');
	await sees('.toast', '70001 belongs to Nora Lind now', 'or a trader is given one');
	await page.getByRole('button', { name: 'Link 70001' }).click();
	check(await until(async () => await page.inputValue('#link-account') === '70001'), 'an account is linked from there too');
	await close('link');
	await page.fill('#credential-search', '');
	await page.click('#tab-monitoring');
}

// What fails, how it is told, and that it mends itself.
async function failures() {
	await page.click('#tab-monitoring');
	await row('Amara').waitFor();
	const whole = () => page.locator('#integrations tbody tr').count();
	const before = await whole();

	let undo = await instead('*', (route) => route.continue({
		headers: { ...route.request().headers(), authorization: `Bearer ${process.env.JWT_EXPIRED}` },
	}));
	await again();
	await sees('#banner', 'has expired', 'an expired JWT is said to be one');
	await sees('#integrations .notice', 'seen', 'what was seen last stays, with its age');
	is(await whole(), before, 'all of it');
	await page.click('#banner button');
	await page.locator('#jwt').waitFor();
	await close('sign-in');
	await undo();
	await again();
	check(await until(async () => !await page.locator('#banner').isVisible()), 'and it goes on when a valid one is there');

	await page.context().setOffline(true);
	await sees('#banner', 'no network', 'a lost network is said to be one');
	is(await whole(), before, 'what was seen last stays');
	await page.context().setOffline(false);
	check(await until(async () => !await page.locator('#banner').isVisible()), 'and it goes on at once when it is back');
	await sees('#pulse', 'Live', 'the page is live again');

	undo = await instead('wfx_mt4_status', (route) => route.fulfill({
		status: 500, json: { code: '57014', message: 'canceling statement due to statement timeout', details: null, hint: null },
	}));
	await again();
	await sees('#integrations .notice', 'statement timeout', 'a statement timeout is told where it happened');
	is(await page.locator('#banner').isVisible(), false, 'and only there');
	await undo();
	check(await until(async () => !await page.locator('#integrations .notice').isVisible(), 25), 'and gone by itself after the next success');

	undo = await instead('*', (route) => route.fulfill({ status: 502, body: '<html>Bad gateway</html>' }));
	await again();
	await sees('#banner', 'HTTP 502', 'a gateway without its API is told');
	await undo();
	await page.click('#banner button');
	check(await until(async () => !await page.locator('#banner').isVisible()), 'and a button tries again at once');

	undo = await instead('*', (route) => route.fulfill({ status: 200, json: { hello: 1 } }));
	await again();
	await sees('#banner', 'is not the API', 'an answer of something else is told');
	is(await page.locator('#pulse').innerText().then((text) => /^Seen/.test(text)), true, 'and the page not called live');
	await undo();
	await page.click('#banner button');
	check(await until(async () => !await page.locator('#banner').isVisible()), 'until the API is back');

	undo = await instead('wfx_mt4_request_sync', (route) => route.fulfill({
		status: 403, json: { code: '42501', message: 'permission denied for function wfx_mt4_request_sync', details: null, hint: null },
	}));
	await row('Amara').getByRole('button', { name: /^Sync/ }).click();
	await sees('.toast.bad', 'may not do this', 'an action that the role may not use says so');
	await undo();
	while (await page.locator('.toast.bad').count() > 0) await page.locator('.toast.bad button').first().click();
	is(await page.locator('.toast.bad').count(), 0, 'and what is dismissed is gone');
}

async function keyboard() {
	await page.click('#tab-monitoring');
	await page.keyboard.press('ArrowRight');
	is(await page.evaluate(() => document.activeElement.id), 'tab-credentials', 'the arrow keys go from tab to tab');
	await page.keyboard.press('End');
	await page.keyboard.press('ArrowRight');
	is(await page.evaluate(() => document.activeElement.id), 'tab-monitoring', 'and around');
	is(await page.locator('[role=tab][tabindex="0"]').count(), 1, 'one tab takes part in the order of the Tab key');
	await row('Amara').getByRole('button', { name: /^Manage/ }).focus();
	await page.keyboard.press('Enter');
	await page.locator('#account').waitFor();
	for (let i = 0; i < 12; i++) await page.keyboard.press('Tab');
	check(await page.evaluate(() => document.activeElement === document.body || document.getElementById('account').contains(document.activeElement)),
		'a dialog keeps the focus');
	await page.keyboard.press('Escape');
	is(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Manage Amara Okafor', 'and gives it back');

	// a refresh, with other numbers
	await page.fill('#search', 'a');
	await page.evaluate(() => window.scrollTo(0, 120));
	const scroll = await page.evaluate(() => scrollY);
	await page.locator('#search').evaluate((e) => e.setSelectionRange(0, 1));
	await page.waitForResponse('**/rpc/wfx_mt4_status');
	sql(`UPDATE traders SET full_name = 'Amara Okafor-Bello' WHERE full_name = 'Amara Okafor'`);
	await sees('#integrations tbody tr', 'Okafor-Bello', 'the page updates itself');
	is(await page.inputValue('#search'), 'a', 'without losing what is typed');
	is(await page.evaluate(() => `${document.activeElement.id} ${document.activeElement.selectionEnd}`), 'search 1', 'the focus and the selection');
	is(await page.evaluate(() => scrollY), scroll, 'or the place');
	await page.fill('#search', '');
}

// Names that only some people have; the pictures come afterwards.
async function oddNames() {
	sql(`UPDATE traders SET full_name = repeat('WM', 1500) WHERE full_name = 'Chiara Ricci'`);
	sql(`UPDATE traders SET full_name = '   ' WHERE full_name = 'Daniel Cohen'`);
	sql(`UPDATE traders SET full_name = U&'Otto \\202Edesrever' WHERE full_name = 'Otto Lang'`);
	await again();
	await sees('#integrations tbody tr', 'WMWM', 'a long name is shown');
	const { height } = await row('WMWM').boundingBox();
	check(height < 90, 'in two lines', height);
	await sees('#integrations .link', 'Account 50006', 'an account whose trader has a name of spaces has its number instead');
	await page.click('#tab-credentials');
	await sees('#waiting tbody tr', 'Otto desrever', 'a name turns no text around');
	await page.click('#tab-monitoring');
}

async function pictures(width, height, colorScheme) {
	const name = (what) => `${what}-${width}-${colorScheme}`;

	await page.setViewportSize({ width, height });
	await page.emulateMedia({ colorScheme });
	for (const tab of ['monitoring', 'credentials', 'leaderboard']) {
		await page.click(`#tab-${tab}`);
		await page.locator(`#${tab} tbody tr`).first().waitFor();
		await page.waitForTimeout(150);
		await shot(name(tab));
		await examine(name(tab));
	}
	await page.click('#tab-monitoring');
	await page.locator('#integrations tbody tr').filter({ hasText: 'Wrong Token' }).getByRole('button', { name: /^Manage/ }).click();
	await page.locator('#account-recent tbody tr').first().waitFor();
	await shot(name('account'));
	await examine(name('account'));
	await close('account');
	await page.click('#link-open');
	await shot(name('link'));
	await examine(name('link'));
	await close('link');
}

// What a tool and a ruler find.
async function examine(name) {
	const wide = await page.evaluate(() => [document.documentElement, ...document.querySelectorAll('dialog[open]')]
		.filter((e) => e.scrollWidth > e.clientWidth).map((e) => `${e.id || e.localName} ${e.scrollWidth}`));

	is(wide.join(), '', `${name}: nothing is wider than the screen`);
	// in 390 dark there is nothing that the others do not have
	if (name.endsWith('390-dark')) return;
	await page.evaluate(AXE);
	const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
	const serious = violations.filter((v) => ['serious', 'critical'].includes(v.impact));
	check(serious.length === 0, `${name}: axe finds nothing serious`,
		serious.map((v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html + n.failureSummary)]));
}

async function withoutWorker() {
	sql(`ALTER SYSTEM SET wfx_mt4.databases = ''`);
	sql('SELECT pg_reload_conf()');
	await sees('#worker', 'No worker', 'where there is no worker, it says so', 20);
	await sees('#worker', 'does not list this database', 'and why');
	await row('Amara').getByRole('button', { name: /^Sync/ }).click();
	await sees('.toast', 'Amara Okafor-Bello: synced', 'an account is synced all the same');
	await page.click('#sync-all');
	await sees('.toast', '7 of 9 accounts succeeded', 'and all of them are');

	// one that takes longer than a statement may
	const allowed = Number(process.env.SECOND);
	const slow = idOf('50007~delay-1500');
	sql(`UPDATE mt4_integrations SET mt4_account_id = '50007~delay-${2 * allowed}' WHERE id = '${slow}'`);
	const undo = await configure('service_role', 'statement_timeout', allowed,
		async () => (await call('wfx_mt4_sync', { integration_id: slow })).code === '57014');
	await page.click('#sync-all');
	await sees('.toast.bad', /6 of 9 accounts succeeded.*timeout.*Elif Kaya/, 'one that takes too long keeps none from it', 30);
	undo();
}

// Five thousand accounts.
async function many() {
	sql(`UPDATE mt4_integrations SET is_active = false`);
	sql(`WITH n AS MATERIALIZED (SELECT n, gen_random_uuid() AS t, gen_random_uuid() AS c FROM generate_series(1, 5000) AS n),
		t AS (INSERT INTO traders (id, full_name, is_approved) SELECT t, 'Trader ' || n, true FROM n),
		c AS (INSERT INTO trading_credentials (id, account_username, account_password, account_number) SELECT c, 'user' || n, 'x', 'many' || n FROM n),
		a AS (INSERT INTO credential_assignments (trader_id, credential_id) SELECT t, c FROM n),
		p AS (INSERT INTO performance_data (trader_id, starting_balance, current_balance, equity, profit_amount, profit_percentage, observed_at, updated_at)
			SELECT t, 1000, 1000 + n, 1000 + n, n, n / 10.0, now(), now() FROM n)
		INSERT INTO mt4_integrations (credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint, sync_status, last_sync, last_attempt)
		SELECT c, 'many' || n, 't', '${PROVIDER}', 'success', now(), now() FROM n`);
	sql('ANALYZE');
	await page.reload({ waitUntil: 'commit' });
	await page.waitForFunction(() => document.querySelectorAll('#integrations tbody tr').length === 50 &&
		document.querySelector('#tiles b').textContent.startsWith('5,0'));
	const ms = await page.evaluate(() => Math.round(performance.now()));
	check(ms < Number(process.env.SECOND), 'five thousand accounts: first content within a second', ms);
	console.error(`first content after ${ms} ms`);
	const first = await page.locator('#integrations tbody tr').first().innerText();
	await page.click('#integrations .pager button:has-text("Next")');
	await sees('#integrations .pager', /51.100 of 5,0/, 'the next page');
	check(await page.locator('#integrations tbody tr').first().innerText() !== first, 'has other rows');
	await page.click('#integrations .pager button:has-text("Previous")');
	await sees('#integrations .pager', /1.50 of 5,0/, 'and back');
	const asked = Date.now();
	await page.fill('#search', 'Trader 4321');
	check(await until(async () => await page.locator('#integrations tbody tr').count() === 1), 'one of them is found');
	check(Date.now() - asked < 1.5 * Number(process.env.SECOND), 'quickly', Date.now() - asked);
	await page.fill('#search', '');
	await page.selectOption('#filter', 'disabled');
	await sees('#integrations tbody tr', 'Paused', 'the paused ones are found');
	await page.selectOption('#filter', '');
	await page.click('#tab-leaderboard');
	await sees('#board .pager', 'The first 100', 'the leaderboard shows the first hundred');
	await page.click('#board-more');
	check(await until(async () => await page.locator('#board tbody tr').count() === 200), 'and more');
	await shot('board-5000');
	const undo = await configure('authenticator', 'pgrst.db_max_rows', '150',
		async () => (await call('wfx_mt4_leaderboard', { limit_count: 300 })).length === 150);
	await page.click('#board-more');
	check(await until(async () => await page.locator('#board tbody tr').count() === 300), 'also where the API gives fewer at once',
		await page.locator('#board tbody tr').count());
	is(await page.locator('#board-more').isVisible(), true, 'and more than these');
	undo();
}

async function fromStaticHost() {
	// another origin than the API's
	await visit(`${GATEWAY.replace('127.0.0.1', 'localhost')}/console.html`);
	await page.locator('#base').waitFor();
	await page.fill('#base', 'http://example.com/rest/v1');
	await page.click('#sign-in button.primary');
	await sees('#sign-in output', 'https', 'a JWT is not sent without TLS');
	await page.fill('#base', `${API}/`);
	await page.fill('#jwt', process.env.JWT_SERVICE_ROLE);
	await page.click('#sign-in button.primary');
	await sees('#integrations tbody tr', 'Trader', 'a static host will do, of another origin');
	await page.reload();
	await sees('#integrations tbody tr', 'Trader', 'a reload keeps the sign-in of this tab');
	is(await page.evaluate(() => localStorage.length), 1, 'and nothing but the address lasts longer');
	await page.click('#tab-credentials');
	await page.getByRole('button', { name: /^Assign many/ }).first().click();
	await page.locator('#assign-to option').first().waitFor({ state: 'attached' });
	await close('assign');
	await page.click('#account-button');
	await page.click('#sign-out');
	is(await page.evaluate(() => (document.documentElement.outerHTML.match(/many\d+/) || [''])[0] + document.getElementById('tiles').textContent.replace(/\D/g, '')),
		'', 'to sign out takes accounts and their numbers out of the page');
	is(await page.evaluate(() => sessionStorage.length), 0, 'to sign out forgets the JWT');
	await sees('#board tbody tr', 'Trader', 'and leaves the leaderboard');
	await leave();
}

async function empty() {
	sql('TRUNCATE traders, trading_credentials, credential_assignments, performance_data, mt4_integrations, sync_history, account_snapshots CASCADE');
	await page.click('#tab-monitoring');
	await sees('#integrations .explain', 'No accounts yet', 'an empty list says how to begin');
	await shot('empty');
	await page.click('#tab-leaderboard');
	await sees('#board .explain', 'Nobody on the board', 'as does an empty leaderboard');
	await page.click('#tab-credentials');
	await sees('#credential-list .explain', 'No credentials yet', 'and the credentials');
}

async function main() {
	browser = await chromium.launch(CHROMIUM);
	await part('without a sign-in', withoutSignIn);
	await part('as anybody', asAnybody);
	await part('as an organiser', asOrganiser);
	await visit(PAGE);
	await part('sign-in', () => signIn('service_role'));
	await part('monitoring', monitoring);
	await part('hostile text', hostileText);
	await part('syncing', syncing);
	await part('managing', managing);
	await part('linking', linking);
	await part('credentials', credentials);
	await part('failures', failures);
	await part('keyboard', keyboard);
	await part('odd names', oddNames);
	for (const [width, height] of SIZES) {
		for (const scheme of ['light', 'dark']) await part(`${width} ${scheme}`, () => pictures(width, height, scheme));
	}
	await page.setViewportSize({ width: 1280, height: 860 });
	await part('without a worker', withoutWorker);
	await part('many', many);
	const administrator = page;
	await part('from a static host', fromStaticHost);
	page = administrator;
	await part('empty', empty);
	is(complaints.join('; '), '', 'the browser had nothing to complain about');
	await browser.close();
	console.log('done');
}

main().catch((e) => {
	console.log(`not ok the script\t${e.stack}`);
	process.exit(1);
});
