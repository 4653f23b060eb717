// Live traffic held to docs/openapi.yaml: a proxy between the clients of sdk.mjs and a server, and every request and
// answer by Ajv. node openapi.mjs MODULES URL
import { createRequire } from 'module';
import { spawn } from 'child_process';
import assert from 'assert';
import fs from 'fs';
import http from 'http';

const [modules, base] = process.argv.slice(2);
const require = createRequire(modules + '/x.js');
const pick = (m) => m.default ?? m;
const served = await (await fetch(base + '/openapi.yaml')).text();
assert.equal(served, fs.readFileSync('docs/openapi.yaml', 'utf8'), 'the server has another description');
const doc = require('yaml').parse(served, { merge: true });
const ajv = new (pick(require('ajv/dist/2020')))({ strict: false, allErrors: false });
pick(require('ajv-formats'))(ajv);
ajv.addSchema(doc, 'openapi');
const escape = (s) => s.replaceAll('~', '~0').replaceAll('/', '~1').replaceAll('{', '%7B').replaceAll('}', '%7D');
const checks = new Map();
function check(...place) {
    const ref = 'openapi#/' + place.map(escape).join('/');
    if (!checks.has(ref)) checks.set(ref, ajv.compile({ $ref: ref }));
    return checks.get(ref);
}

// Every reference leads somewhere, and every route of the server is there.
JSON.stringify(doc, (k, v) => { if (k === '$ref') check(...v.slice(2).split('/')); return v; });
const routes = [...fs.readFileSync('src/serve/routes.c', 'utf8').matchAll(/\{"(GET|POST)", "([^"]+)", ROUTE/g)].map((m) => [m[1].toLowerCase(), m[2]]);
assert(routes.length > 20);
const template = (path) => Object.keys(doc.paths).find((p) => new RegExp('^' + p.replace(/\{\w+\}/g, '.+') + '$').test(path) && !(p.includes('{') && doc.paths[path]));
for (const [method, path] of routes) assert(doc.paths[template(path.replace('*', 'x'))]?.[method], `${method} ${path} is not described`);
for (const path of Object.keys(doc.paths)) assert(routes.some(([, p]) => template(p.replace('*', 'x')) === path), `${path} is described and not there`);

const follow = (o) => (o.$ref ? o.$ref.slice(2).split('/').reduce((d, k) => d[k], doc) : o);
const placeOf = (o, ...place) => (o.$ref ? o.$ref.slice(2).split('/') : place);
let n = 0;
const seen = new Set(), faults = [];
function hold(what, place, value) {
    n++;
    const c = check(...place);
    if (!c(value)) faults.push(`${what}: ${ajv.errorsText(c.errors)}: ${JSON.stringify(value).slice(0, 300)}`);
}

function look(method, path, request, status, type, text) {
    const name = template(path), op = name && doc.paths[name][method];
    if (!op) return void (status !== 404 && status !== 405 && faults.push(`${method} ${path}: ${status}, and not described`));
    const place = ['paths', name, method], what = `${method} ${path} ${status}`;
    let body;
    try { body = JSON.parse(request); } catch { /* not JSON: the answer says so */ }
    if (op.requestBody && body !== undefined) {
        const c = check(...place, 'requestBody', 'content', 'application/json', 'schema');
        if (status < 300) hold(what + ' request', [...place, 'requestBody', 'content', 'application/json', 'schema'], body);
        else if (status === 400 && /does not know this parameter/.test(text)) assert(!c(body), 'described as good: ' + request);
    }
    const code = op.responses[status] ? String(status) : 'default', answer = op.responses[code];
    const at = placeOf(answer, ...place, 'responses', code), media = type.split(';')[0];
    if (!follow(answer).content?.[media]) return void faults.push(`${what}: ${media} is not described`);
    seen.add(`${method} ${name} ${code} ${media}`);
    const to = [...at, 'content', media, 'schema'];
    if (media === 'application/json') hold(what, to, JSON.parse(text));
    else if (media === 'application/x-ndjson') text.split('\n').filter(Boolean).forEach((l) => hold(what, to, JSON.parse(l)));
    else if (media === 'text/event-stream')
        text.split('\n').filter((l) => l.startsWith('data: ') && l !== 'data: [DONE]').forEach((l) => hold(what, to, JSON.parse(l.slice(6))));
    else hold(what, to, text);
}

const proxy = http.createServer((q, r) => {
    const chunks = [];
    q.on('data', (d) => chunks.push(d));
    q.on('end', () => {
        const url = new URL(q.url, base), body = Buffer.concat(chunks);
        const on = http.request(url, { method: q.method, headers: { ...q.headers, host: url.host } }, (a) => {
            const back = [];
            r.writeHead(a.statusCode, a.headers);
            a.on('data', (d) => { back.push(d); r.write(d); });
            a.on('end', () => { r.end(); look(q.method.toLowerCase(), url.pathname, body.toString(), a.statusCode, a.headers['content-type'] ?? '', Buffer.concat(back).toString()); });
            a.on('error', () => r.destroy());
        });
        on.on('error', () => r.destroy());
        r.on('close', () => on.destroy());
        on.end(body);
    });
});
await new Promise((go) => proxy.listen(0, '127.0.0.1', go));
const own = `http://127.0.0.1:${proxy.address().port}`;
await new Promise((go, no) => spawn('node', ['tests/serve/sdk.mjs', modules, own], { stdio: 'inherit' }).on('exit', (s) => (s ? no(new Error('sdk.mjs')) : go())));

// What the clients do not ask.
const model = 'teller-18m-q8_0', messages = [{ role: 'user', content: 'Tell me' }];
const ask = async (path, body, status = 200) => {
    const r = await fetch(own + path, body === undefined ? {} : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    const text = await r.text();
    assert.equal(r.status, status, path + ' ' + text);
    return text;
};
for (const path of ['/health', '/ready', '/metrics', '/openapi.yaml', '/v1/models', '/v1/models/' + model, '/api/tags', '/api/ps', '/api/version']) await ask(path);
await ask('/v1/models/none', undefined, 404);
await ask('/v1/responses', undefined, 426);
for (const stream of [false, true]) {
    await ask('/v1/completions', { model, prompt: ['a', 'b'], max_tokens: 3, n: 2, logprobs: 2, stream, stream_options: { include_usage: true } });
    await ask('/v1/chat/completions', { model, messages, max_tokens: 3, logprobs: true, top_logprobs: 2, stream, reasoning_effort: 'low', seed: 1, stop: ['x'] });
    await ask('/v1/responses', { model, input: 'a', max_output_tokens: 3, stream, temperature: 0.5, reasoning: { effort: 'none' } });
    await ask('/v1/messages', { model, messages, max_tokens: 30, stream, thinking: { type: 'enabled', budget_tokens: 5 }, top_k: 5, stop_sequences: ['the'] });
    await ask('/api/chat', { model, messages, stream, think: true, options: { num_predict: 3, repeat_last_n: 5 } });
    await ask('/api/generate', { model, prompt: 'a', raw: true, stream, options: { num_predict: 3 } });
}
await ask('/api/generate', { model });
await ask('/v1/responses/compact', { model, input: 'A dog' });
await ask('/api/embeddings', { model, prompt: 'a' });
await ask('/tokenize', { content: 'a b', with_pieces: true });
await ask('/detokenize', { tokens: [5, 6] });
await ask('/apply-template', { messages });
await ask('/api/pull', { model: 'some/model' }, 403); // off here; see pull.py
for (const path of Object.keys(doc.paths).filter((p) => doc.paths[p].post && p !== '/api/pull')) {
    await ask(path, { model, wibble: 1 }, 400);
    await ask(path, { model, input: 'a', prompt: 'a', messages, content: 'a', tokens: [1], max_tokens: 3, stream: 7 }, 400);
}
proxy.close();
proxy.closeAllConnections();

for (const f of new Set(faults.map((f) => f.slice(0, 600)))) console.log(f);
assert.equal(faults.length, 0);
for (const [path, ops] of Object.entries(doc.paths))
    for (const [method, op] of Object.entries(ops))
        for (const media of path === '/api/pull' ? [] : Object.keys(op.responses['200'] ? follow(op.responses['200']).content : {})) assert(seen.has(`${method} ${path} 200 ${media}`), `${method} ${path} ${media} was not seen`);
assert(!check('components', 'schemas', 'ChatAnswer')({}) && !check('components', 'schemas', 'ChatRequest')({ model, messages, wibble: 1 }), 'it passes anything');
console.log(`${n} bodies held to the description`);
