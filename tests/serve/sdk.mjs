// The official clients against a server of ours. Run by sdk.test with the folder of node_modules and the server's URL.
import { createRequire } from 'module';
import assert from 'assert';

const [modules, base] = process.argv.slice(2);
const require = createRequire(modules + '/x.js');
const pick = (m) => m.default ?? m;
const model = 'teller-18m-q8_0';
const user = 'Tell me a story';
const messages = [{ role: 'user', content: user }];
const schema = { type: 'object', properties: { name: { enum: ['Lily', 'Tom'] } }, required: ['name'], additionalProperties: false };
const parameters = { type: 'object', properties: { place: { enum: ['sea', 'hill'] } }, required: ['place'], additionalProperties: false };
let calls = 0;

async function fails(promise, status, word) {
    calls++;
    try {
        await promise;
    } catch (e) {
        assert.equal(e.status ?? e.status_code, status, String(e));
        assert.match(String(e.message), word);
        return;
    }
    assert.fail(`no ${status}`);
}

async function openai() {
    const OpenAI = pick(require('openai'));
    const o = new OpenAI({ baseURL: base + '/v1', apiKey: 'none-needed', maxRetries: 0 });
    const common = { model, messages, max_tokens: 10, temperature: 0 };
    assert.equal((await o.models.list()).data[0].id, model);
    assert.equal((await o.models.retrieve(model)).id, model);
    const whole = (await o.chat.completions.create(common)).choices[0].message.content;
    for (let i = 0; i < 20; i++) {
        const s = o.chat.completions.stream({ ...common, seed: i, stream_options: { include_usage: true } });
        assert.equal((await s.finalChatCompletion()).choices[0].message.content, whole);
        assert.equal((await s.totalUsage()).completion_tokens, 10);
        calls++;
    }
    const many = await Promise.all(Array.from({ length: 16 }, () => o.chat.completions.create({ ...common, n: 2 })));
    for (const m of many) for (const c of m.choices) assert.equal(c.message.content, whole);
    const form = { type: 'json_schema', json_schema: { name: 'child', schema, strict: true } };
    for (let seed = 0; seed < 8; seed++) {
        const p = await o.chat.completions.parse({ ...common, max_tokens: 60, temperature: 1, seed, response_format: form });
        assert(['Lily', 'Tom'].includes(p.choices[0].message.parsed.name));
        const tools = [{ type: 'function', function: { name: 'go', parameters, strict: true } }];
        const t = await o.chat.completions.create({ ...common, max_tokens: 60, temperature: 1, seed, tools, tool_choice: 'required' });
        assert(['sea', 'hill'].includes(JSON.parse(t.choices[0].message.tool_calls[0].function.arguments).place));
        calls += 2;
    }
    assert((await o.completions.create({ model, prompt: 'Once', max_tokens: 4 })).choices[0].text.length);
    let text = '';
    for await (const c of await o.completions.create({ model, prompt: 'Once', max_tokens: 4, stream: true })) text += c.choices[0].text;
    const r = await o.responses.create({ model, input: user, max_output_tokens: 10, temperature: 0 });
    assert.equal(r.output_text, whole);
    const rs = await o.responses.stream({ model, input: user, max_output_tokens: 10, temperature: 0 }).finalResponse();
    assert.equal(rs.output[0].content[0].text, whole);
    const rt = await o.responses.create({ model, input: user, tools: [{ type: 'function', name: 'go', parameters, strict: true }], tool_choice: 'required' });
    assert.equal(rt.output[0].type, 'function_call');
    await fails(o.chat.completions.create({ ...common, model: 'gpt-9' }), 404, /gpt-9|no such model/);
    await fails(o.chat.completions.create({ ...common, temperature: -1 }), 400, /temperature/);
    await fails(o.chat.completions.create({ ...common, wibble: 1 }), 400, /wibble/);
    const image = [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AA' } }] }];
    await fails(o.chat.completions.create({ ...common, messages: image }), 400, /image_url/);
    for (let i = 0; i < 10; i++) { // aborts
        const s = await o.chat.completions.create({ ...common, max_tokens: 200, stream: true });
        for await (const c of s) if (c.choices[0].delta.content) s.controller.abort();
        calls++;
    }
    calls += 30;
    await openaiTools(o, common);
    await openaiVectors(o);
    return whole;
}

const near = (a, b) => a.length === b.length && a.every((x, i) => Math.abs(x - b[i]) < 1e-5);

async function openaiVectors(o) {
    const texts = ['A dog', 'A cat by the sea'];
    const packed = await o.embeddings.create({ model, input: texts }); // the client asks for base64 by itself
    const plain = await o.embeddings.create({ model, input: texts, encoding_format: 'float' });
    plain.data.forEach((d, i) => assert(near(d.embedding, packed.data[i].embedding)));
    assert(Math.abs(plain.data[0].embedding.reduce((s, x) => s + x * x, 0) - 1) < 1e-5);
    assert.equal((await o.embeddings.create({ model, input: texts[0], dimensions: 16 })).data[0].embedding.length, 16);
    await fails(o.embeddings.create({ model, input: '' }), 400, /empty/);
    await fails(o.embeddings.create({ model, input: 'a', dimensions: 1e6 }), 400, /dimensions/);
    calls += 3;
}

// Calls in parts, put together by the client; several at once; chosen, forbidden, by name.
async function openaiTools(o, common) {
    const tools = ['go', 'look'].map((name) => ({ type: 'function', function: { name, parameters } }));
    const flat = tools.map((t) => ({ type: 'function', name: t.function.name, parameters, strict: true }));
    const more = { ...common, max_tokens: 300, temperature: 1, tools };
    for (let seed = 0; seed < 6; seed++) {
        const s = o.chat.completions.stream({ ...more, seed, tool_choice: 'required', parallel_tool_calls: true });
        let parts = 0;
        s.on('tool_calls.function.arguments.delta', () => parts++);
        const choice = (await s.finalChatCompletion()).choices[0], made = choice.message.tool_calls;
        if (choice.finish_reason === 'length') made.splice(-1); // cut off in the middle
        assert(parts > made.length && made.every((t) => ['sea', 'hill'].includes(JSON.parse(t.function.arguments).place)));
        const r = o.responses.stream({ model, input: user, temperature: 1, seed, tools: flat, tool_choice: 'required', max_output_tokens: 300 });
        let deltas = 0;
        r.on('response.function_call_arguments.delta', () => deltas++);
        const [call] = (await r.finalResponse()).output;
        assert(deltas > 1 && call.type === 'function_call' && JSON.parse(call.arguments).place);
        calls += 2;
    }
    const named = await o.chat.completions.create({ ...more, tool_choice: { type: 'function', function: { name: 'look' } } });
    assert.equal(named.choices[0].message.tool_calls[0].function.name, 'look');
    assert(!(await o.chat.completions.create({ ...more, max_tokens: 10, tool_choice: 'none' })).choices[0].message.tool_calls);
    await o.chat.completions.create({ ...more, max_tokens: 10, tool_choice: 'auto', parallel_tool_calls: false });
    const again = [...messages, { role: 'assistant', content: '', tool_calls: named.choices[0].message.tool_calls },
        { role: 'tool', tool_call_id: named.choices[0].message.tool_calls[0].id, content: 'the sea is blue' }];
    assert((await o.chat.completions.create({ ...more, max_tokens: 10, tool_choice: 'none', messages: again })).choices[0].message.content.length);
    for (const effort of ['none', 'low', 'high']) await o.chat.completions.create({ ...common, reasoning_effort: effort });
    await o.responses.create({ model, input: user, max_output_tokens: 5, reasoning: { effort: 'low' } });
    await fails(o.chat.completions.create({ ...common, reasoning_effort: 'huge' }), 400, /reasoning_effort/);
    await fails(o.responses.create({ model, input: user, store: true }), 400, /store/);
    await fails(o.responses.create({ model, input: user, previous_response_id: 'resp_1' }), 400, /previous_response_id/);
    const forms = await o.responses.parse({ model, input: user, text: { format: { type: 'json_schema', name: 'child', schema, strict: true } } });
    assert(['Lily', 'Tom'].includes(forms.output_parsed.name));
    const sum = await o.responses.compact({ model, input: user });
    assert.equal(sum.output[0].type, 'compaction');
    assert((await o.responses.create({ model, input: [...sum.output, { role: 'user', content: 'Go on' }], max_output_tokens: 5 })).id);
    calls += 11;
}

async function anthropic(whole) {
    const Anthropic = pick(require('@anthropic-ai/sdk'));
    const a = new Anthropic({ baseURL: base, apiKey: 'none-needed', maxRetries: 0 });
    const common = { model, max_tokens: 10, temperature: 0, messages };
    for (let i = 0; i < 10; i++) {
        assert.equal((await a.messages.create(common)).content[0].text, whole);
        assert.equal((await a.messages.stream(common).finalMessage()).content[0].text, whole);
        calls += 2;
    }
    assert.equal((await a.messages.countTokens({ model, messages })).input_tokens, 12);
    const tools = [{ name: 'go', input_schema: parameters }];
    const forced = { ...common, max_tokens: 60, tools, tool_choice: { type: 'any' } };
    assert((await a.messages.create(forced)).content[0].input.place);
    const t = await a.messages.stream(forced).finalMessage();
    assert(t.stop_reason === 'tool_use' && t.content[0].input.place);
    for (let seed = 0; seed < 4; seed++) {
        const s = a.messages.stream({ ...forced, max_tokens: 300, temperature: 1, seed, tool_choice: { type: 'any', disable_parallel_tool_use: false } });
        let parts = 0;
        s.on('inputJson', () => parts++);
        const m = await s.finalMessage();
        if (m.stop_reason === 'max_tokens') m.content.splice(-1);
        assert(parts > m.content.length && m.content.every((b) => ['sea', 'hill'].includes(b.input.place)));
        calls++;
    }
    assert.equal((await a.messages.create({ ...forced, tool_choice: { type: 'tool', name: 'go' } })).content[0].name, 'go');
    assert.equal((await a.messages.create({ ...forced, max_tokens: 10, tool_choice: { type: 'none' } })).content[0].type, 'text');
    const use = t.content[0];
    const talk = [...messages, { role: 'assistant', content: [use] }, { role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: 'blue' }] }];
    assert((await a.messages.create({ ...common, messages: talk })).content.length);
    assert((await a.messages.create({ ...common, max_tokens: 40, thinking: { type: 'enabled', budget_tokens: 20 } })).content.length);
    await fails(a.messages.create({ ...common, thinking: { type: 'enabled', budget_tokens: 20 } }), 400, /budget_tokens/);
    assert(JSON.parse((await a.messages.create({ ...common, max_tokens: 60, output_config: { format: { type: 'json_schema', schema } } })).content[0].text).name);
    assert.equal((await a.models.list()).data[0].id, model);
    for (let i = 0; i < 4; i++) {
        const s = a.messages.stream({ ...common, max_tokens: 200 });
        s.on('text', () => s.abort());
        await assert.rejects(s.finalMessage());
        calls++;
    }
    calls += 7;
    await fails(a.messages.create({ ...common, model: 'x' }), 404, /no such model/);
    await fails(a.messages.create({ ...common, top_k: -1 }), 400, /top_k/);
    calls += 3;
}

async function ollama(whole) {
    const { Ollama } = require('ollama');
    const o = new Ollama({ host: base });
    const options = { num_predict: 10, temperature: 0 };
    for (let i = 0; i < 8; i++) {
        assert.equal((await o.chat({ model, messages, options })).message.content, whole);
        let text = '';
        for await (const p of await o.generate({ model, prompt: user, options, stream: true })) text += p.response;
        assert.equal(text, whole);
        calls += 2;
    }
    const vectors = (await o.embed({ model, input: ['A dog', 'A cat'] })).embeddings;
    assert(near((await o.embed({ model, input: 'A dog' })).embeddings[0], vectors[0]) && vectors.length === 2);
    assert((await o.embeddings({ model, prompt: 'A dog' })).embedding.length === vectors[0].length);
    assert.equal((await o.chat({ model, messages, think: false, options })).message.content, whole);
    assert((await o.version()).version);
    await fails(o.embed({ model, input: 5 }), 400, /input/);
    calls += 5;
    assert(JSON.parse((await o.chat({ model, messages, format: schema })).message.content).name);
    assert.equal((await o.list()).models[0].name, model);
    assert.equal((await o.ps()).models[0].name, model);
    assert((await o.show({ model })).model_info);
    await fails(o.chat({ model: 'x', messages }), 404, /no such model/);
    const s = await o.generate({ model, prompt: user, stream: true, options: { num_predict: 200 } });
    await assert.rejects(async () => { for await (const p of s) if (p.response) s.abort(); });
    calls += 5;
}

const whole = await openai();
await anthropic(whole);
await ollama(whole);
assert(calls >= 100, `${calls} calls`);
console.log(`${calls} calls`);
