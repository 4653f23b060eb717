// The OpenResponses project's compliance suite against a server. node openresponses.mjs SUITE MODULES URL, SUITE being a
// bundle of its src/lib/compliance-tests.ts. Its tests of tools leave the choice to the model, and the one in the box was
// never taught any: they are sent with tool_choice "required". Image input must fail, with a clear 400.
import { createRequire } from 'module';
import assert from 'assert';

const [suite, modules, base] = process.argv.slice(2);
globalThis.WebSocket = createRequire(modules + '/x.js')('ws').WebSocket;
const { testTemplates, runAllTests } = await import(suite);
for (const t of testTemplates) {
    const inner = t.getRequest;
    t.getRequest = (c) => {
        const body = inner(c);
        return body?.tools?.length ? { ...body, tool_choice: 'required' } : body;
    };
}
const config = { baseUrl: base + '/v1', apiKey: 'sesame-sesame', authHeaderName: 'Authorization', useBearerPrefix: true, model: 'teller-18m-q8_0', runtime: 'server' };
const results = await runAllTests(config, () => {});
for (const r of results) console.log(r.status, r.id, (r.errors ?? []).join(' | ').slice(0, 500));
const bad = results.filter((r) => r.status !== 'passed');
assert(results.length >= 10);
assert.deepEqual(bad.map((r) => r.id), ['image-input']);
assert.match(JSON.stringify(bad[0].response ?? bad[0].errors), /input_image|HTTP 400/);
