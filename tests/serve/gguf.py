"""The model in the box with another chat template, or with damaged numbers: files the tests of the server need."""
import struct

SOURCE = "models/teller-18m-q8_0.gguf"
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        self.at += struct.calcsize(form)
        return struct.unpack_from(form, self.data, self.at - struct.calcsize(form))[0]

    def string(self):
        n = self.number("<Q")
        self.at += n
        return self.data[self.at - n:self.at]

    def skip(self, kind):
        if kind == 8:
            self.string()
        elif kind == 9:
            inner, n = self.number("<I"), self.number("<Q")
            for _ in range(n):
                self.skip(inner)
        else:
            self.at += SIZES[kind]


def changed(out, template=None, damage=None, source=SOURCE):
    """A copy: its template another, the first numbers of tensor `damage` (float32) NaN."""
    data = open(source, "rb").read()
    r = Reader(data)
    r.at = 8
    n_tensors, n_kv = r.number("<Q"), r.number("<Q")
    head = bytearray(data[:r.at])
    for _ in range(n_kv):
        begin = r.at
        key, kind = r.string(), r.number("<I")
        value = r.at
        r.skip(kind)
        if template is not None and key == b"tokenizer.chat_template":
            head += data[begin:value] + struct.pack("<Q", len(template.encode())) + template.encode()
        else:
            head += data[begin:r.at]
    begin, spot = r.at, None
    for _ in range(n_tensors):
        name = r.string()
        n_dims = r.number("<I")
        r.at += 8 * n_dims
        kind, offset = r.number("<I"), r.number("<Q")
        if damage and name == damage.encode():
            assert kind == 0, "not float32"
            spot = offset
    assert bool(damage) == (spot is not None)
    head += data[begin:r.at]
    body = bytearray(data[(r.at + 31) // 32 * 32:])
    if damage:
        body[spot:spot + 64] = struct.pack("<16f", *[float("nan")] * 16)
    head += bytes(-len(head) % 32)
    with open(out, "wb") as f:
        f.write(head + body)
    return out


THINKS = ("{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' -}}{%- endfor -%}"
          "{{- '<|im_start|>assistant\\n' -}}{%- if enable_thinking is not defined or enable_thinking -%}{{- '<think>\\n' -}}{%- endif -%}")
ALWAYS = ("{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' -}}{%- endfor -%}"
          "{{- '<|im_start|>assistant\\n<think>\\n' -}}")
