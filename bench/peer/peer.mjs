// peer.mjs - llama.cpp (npm node-llama-cpp, prebuilt) on one model: prefill and decode, medians.
//     node peer.mjs MODEL --threads 2 --prompt 512 --gen 64 --repeat 3 [--ppl FILE --tokens 20480 --ctx 512]
// Prints one JSON object. The first run of each is a warm-up and is not counted.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { values: opt, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: "string", default: "2" }, prompt: { type: "string", default: "512" },
    gen: { type: "string", default: "64" }, repeat: { type: "string", default: "3" },
    ppl: { type: "string" }, tokens: { type: "string", default: "20480" }, ctx: { type: "string", default: "512" },
  },
});
const require = createRequire((process.env.LARDER_PEER ?? process.cwd()) + "/");
const { getLlama } = await import(pathToFileURL(require.resolve("node-llama-cpp")));

const threads = +opt.threads, n_prompt = +opt.prompt, n_gen = +opt.gen, repeat = +opt.repeat;
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: threads });
const model = await llama.loadModel({ modelPath: positionals[0] });
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
const seconds = () => Number(process.hrtime.bigint()) * 1e-9;

async function speed() {
  const context = await model.createContext({
    contextSize: n_prompt + n_gen + 8, batchSize: 512, threads: { ideal: threads, min: threads }, flashAttention: true,
  });
  const sequence = context.getSequence();
  const vocabulary = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
  const ids = Array.from({ length: n_prompt }, (_, i) => (i * 7919 + 13) % (vocabulary - 300) + 280);
  const prefill = [], decode = [];
  for (let r = -1; r < repeat; r++) {
    await sequence.clearHistory();
    let t = seconds();
    await sequence.evaluateWithoutGeneratingNewTokens(ids);
    if (r >= 0) prefill.push(ids.length / (seconds() - t));
    await sequence.clearHistory();
    // one token at a time from an empty context, fed rather than sampled: the cost of a decode step alone
    await sequence.evaluateWithoutGeneratingNewTokens(ids.slice(0, 4));
    t = seconds();
    for (let i = 0; i < n_gen; i++) await sequence.evaluateWithoutGeneratingNewTokens([ids[(4 + i) % ids.length]]);
    if (r >= 0) decode.push(n_gen / (seconds() - t));
  }
  await context.dispose();
  return { prefill_tok_s: median(prefill), decode_tok_s: median(decode) };
}

// Windows of ctx tokens that do not overlap, the first token replaced by BOS, the second half scored: llama.cpp's way.
async function perplexity() {
  const ctx = +opt.ctx;
  const text = readFileSync(opt.ppl, "utf8");
  const bos = model.tokens.bos;
  const ids = [bos, ...model.tokenize(text, false)].slice(0, +opt.tokens);
  const context = await model.createContext({ contextSize: ctx + 8, batchSize: ctx, threads: { ideal: threads, min: threads } });
  const sequence = context.getSequence();
  let sum = 0, n = 0;
  for (let at = 0; at + ctx <= ids.length; at += ctx) {
    const window = [bos, ...ids.slice(at + 1, at + ctx)];
    await sequence.clearHistory();
    const input = window.map((id, i) => (i >= ctx / 2 && i + 1 < ctx ? [id, { generateNext: { probabilities: true } }] : id));
    const out = await sequence.controlledEvaluate(input);
    for (let i = ctx / 2; i + 1 < ctx; i++, n++) sum -= Math.log(out[i].next.probabilities.get(window[i + 1]));
  }
  return { perplexity: Math.exp(sum / n), scored: n };
}

const result = opt.ppl ? await perplexity() : await speed();
console.log(JSON.stringify({ peer: "node-llama-cpp 3.22.1", threads, ...result }));
process.exit(0);
