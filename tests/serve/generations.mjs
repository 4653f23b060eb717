// Generations over 100 different schemas, each answer checked by Ajv. node generations.mjs MODULES URL COUNT
import { createRequire } from 'module';
import assert from 'assert';

const [modules, base, count] = process.argv.slice(2);
const require = createRequire(modules + '/x.js');
const pick = (m) => m.default ?? m;
const ajv = new (pick(require('ajv/dist/2020')))({ strict: false, allErrors: true });
pick(require('ajv-formats'))(ajv);
const model = 'teller-18m-q8_0';

const object = (properties, more = {}) => ({ type: 'object', properties, required: Object.keys(properties), additionalProperties: false, ...more });
const word = { type: 'string', minLength: 1, maxLength: 12 };
const values = [
    { type: 'boolean' }, { type: 'null' }, { type: 'integer' }, { type: 'integer', minimum: 3, maximum: 9 }, { type: 'integer', exclusiveMinimum: -5, exclusiveMaximum: 5 },
    { type: 'integer', multipleOf: 7, minimum: 0, maximum: 1000 }, { type: 'number', minimum: 0, maximum: 1 }, { type: 'number', minimum: -10.5, maximum: 2.25 },
    { type: 'string', maxLength: 20 }, { type: 'string', minLength: 5, maxLength: 9 }, { type: 'string', pattern: '^[a-z]{2,5}$' }, { type: 'string', pattern: '^(red|green|blue)-[0-9]{3}$' },
    { type: 'string', format: 'date' }, { type: 'string', format: 'date-time' }, { type: 'string', format: 'uuid' }, { type: 'string', format: 'ipv4' }, { type: 'string', format: 'time' },
    { enum: ['a', 'b', 3, null, true] }, { const: 'only' }, { const: { a: [1, 2] } }, { enum: [{ x: 1 }, [2], 'é'] },
    { type: ['integer', 'null'], maximum: 99, minimum: 0 }, { type: ['string', 'boolean'], maxLength: 8 }, { anyOf: [{ type: 'integer', minimum: 0, maximum: 9 }, { const: 'none' }] },
    { oneOf: [{ type: 'string', maxLength: 4 }, { type: 'integer', minimum: 0, maximum: 99 }] }, { allOf: [{ type: 'integer', minimum: 2 }, { maximum: 8 }] },
    { type: 'array', items: { type: 'integer', minimum: 0, maximum: 9 }, minItems: 2, maxItems: 4 }, { type: 'array', items: word, maxItems: 3 },
    { type: 'array', prefixItems: [{ type: 'integer', minimum: 0, maximum: 9 }, word], items: false, minItems: 2 }, { type: 'array', items: { enum: ['x', 'y'] }, minItems: 1, maxItems: 5 },
    object({ name: word }), object({ name: { enum: ['Lily', 'Tom'] }, age: { type: 'integer', minimum: 3, maximum: 9 } }), object({ a: object({ b: object({ c: { type: 'boolean' } }) }) }),
    { type: 'object', properties: { a: word, b: { type: 'boolean' } }, additionalProperties: false }, { type: 'object', properties: { a: word, b: { type: 'boolean' } }, required: ['b'], additionalProperties: false },
    { type: 'object', propertyNames: { maxLength: 8 }, additionalProperties: { type: 'boolean' }, maxProperties: 3 }, { type: 'object', patternProperties: { '^k[0-9]$': { type: 'boolean' } }, additionalProperties: false, maxProperties: 3 },
    { $defs: { n: { type: 'integer', minimum: 1, maximum: 5 } }, type: 'array', items: { $ref: '#/$defs/n' }, minItems: 1, maxItems: 3 },
    { $defs: { t: object({ v: { type: 'integer', minimum: 0, maximum: 9 } }) }, ...object({ left: { $ref: '#/$defs/t' }, right: { $ref: '#/$defs/t' } }) },
    { if: { type: 'integer' }, then: { minimum: 0, maximum: 9 }, else: { enum: ['no'] } }, { not: { type: ['object', 'array', 'string', 'number'] } },
];
// A hundred: each of those, in a list, and as a member beside another.
const all = [...values, ...values.map((v, i) => (v.$defs ? { $defs: v.$defs, ...object({ id: { const: i }, it: { ...v, $defs: undefined } }) } : object({ id: { const: i }, it: v }))),
    ...values.map((v, i) => object({ many: v.$defs ? { const: i } : { type: 'array', items: v, minItems: 1, maxItems: 2 } }))].slice(0, 100);
assert.equal(new Set(all.map((s) => JSON.stringify(s))).size, 100);

async function ask(schema, seed) {
    const body = { model, messages: [{ role: 'user', content: 'Tell me' }], max_tokens: 900, temperature: 1, seed, logit_bias: {},
        response_format: { type: 'json_schema', json_schema: { name: 'x', schema, strict: true } } };
    const r = await fetch(base + '/v1/chat/completions', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    const o = await r.json();
    assert.equal(r.status, 200, JSON.stringify(o) + JSON.stringify(schema));
    return o.choices[0];
}

let valid = 0, long = 0, bad = 0;
const checks = all.map((s) => ajv.compile(JSON.parse(JSON.stringify(s))));
async function worker(k, n) {
    for (let i = k; i < count; i += n) {
        const c = await ask(JSON.parse(JSON.stringify(all[i % 100])), i);
        if (c.finish_reason === 'length') { long++; console.log('cut off', JSON.stringify(all[i % 100]), c.message.content.slice(0, 120)); continue; } // no end within max_tokens: told, and not counted
        const ok = checks[i % 100](JSON.parse(c.message.content));
        if (!ok) console.log(JSON.stringify(all[i % 100]), c.message.content, ajv.errorsText(checks[i % 100].errors));
        ok ? valid++ : bad++;
    }
}
await Promise.all(Array.from({ length: 8 }, (_, k) => worker(k, 8)));
console.log(`${valid} of ${count} valid, ${bad} not, ${long} cut off by max_tokens`);
assert.equal(bad, 0);
assert(long * 50 <= count, 'too many were cut off');
