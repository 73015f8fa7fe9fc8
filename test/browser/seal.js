// Writes the hashes of the admin page's style and script into its Content-Security-Policy:
//
//	node test/browser/seal.js
//
// To be run after every change of the page; without it a browser refuses the changed part.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const path = require('path');

const PAGE = path.join(__dirname, '../../sql/wfx_mt4_console.html');

// Puts the hash of the only element of this name into its directive.
function seal(html, element, directive) {
	const [, content] = html.match(new RegExp(`<${element}>([^]*)</${element}>`));
	const hash = crypto.createHash('sha256').update(content).digest('base64');

	return html.replace(new RegExp(`${directive} 'sha256-[^']*'`), `${directive} 'sha256-${hash}'`);
}

const html = fs.readFileSync(PAGE, 'ascii');

fs.writeFileSync(PAGE, seal(seal(html, 'style', 'style-src'), 'script', 'script-src'));
