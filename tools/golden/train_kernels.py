"""Writes src/kernels/testdata/train.txt: gradients, losses and optimizer steps as PyTorch computes
them, for src/kernels/train_golden_test.cc. A line is a name, the number of values, the values.

    python tools/golden/train_kernels.py
"""

import pathlib

import torch
import torch.nn.functional as F

OUT = pathlib.Path(__file__).resolve().parents[2] / "src/kernels/testdata/train.txt"
lines = []


def put(name, tensor):
    values = tensor.detach().double().reshape(-1).tolist()
    lines.append(f"{name} {len(values)} " + " ".join(f"{v:.9g}" for v in values))


def rand(*shape):
    """f32 values, kept in f64 so that gradients are exact to f32."""
    return torch.randn(*shape).float().double()


def leaf(*shape):
    return rand(*shape).requires_grad_()


def attention():
    documents, heads, kv_heads, k_dim, v_dim = (7, 1, 20), 4, 2, 6, 5
    rows, scale = sum(documents), 0.4
    q, k, v = leaf(rows, heads, k_dim), leaf(rows, kv_heads, k_dim), leaf(rows, kv_heads, v_dim)
    dout = rand(rows, heads, v_dim)
    loss, first = 0, 0
    for n in documents:
        s = slice(first, first + n)
        kk = k[s].repeat_interleave(heads // kv_heads, 1).transpose(0, 1)
        vv = v[s].repeat_interleave(heads // kv_heads, 1).transpose(0, 1)
        out = F.scaled_dot_product_attention(
            q[s].transpose(0, 1), kk, vv, is_causal=True, scale=scale
        )
        loss = loss + (out.transpose(0, 1) * dout[s]).sum()
        first += n
    loss.backward()
    for name, t in dict(q=q, k=k, v=v, dout=dout, dq=q.grad, dk=k.grad, dv=v.grad).items():
        put("attention." + name, t)


def rows():
    x, w, dy = leaf(3, 21), leaf(21), rand(3, 21)
    (F.rms_norm(x, (21,), w, 1e-3) * dy).sum().backward()
    for name, t in dict(x=x, w=w, dy=dy, dx=x.grad, dw=w.grad).items():
        put("rmsnorm." + name, t)
    gate, up, dy = leaf(3, 19), leaf(3, 19), rand(3, 19)
    (F.silu(gate) * up * dy).sum().backward()
    for name, t in dict(gate=gate, up=up, dy=dy, dgate=gate.grad, dup=up.grad).items():
        put("swiglu." + name, t)


def losses():
    logits, targets = (3 * rand(4, 23)).requires_grad_(), torch.tensor([3, 22, 0, 7])
    weights, z_loss = torch.tensor([1.0, 0.5, 0.0, 2.0]).double(), 0.01
    lse = logits.logsumexp(1)
    loss = weights * (F.cross_entropy(logits, targets, reduction="none") + z_loss * lse**2)
    (0.25 * loss.sum()).backward()
    for name, t in dict(logits=logits, targets=targets, weights=weights, losses=loss,
                        grad=logits.grad).items():
        put("entropy." + name, t)

    teacher, t = 3 * rand(4, 23), 1.7
    top = torch.log_softmax(teacher / t, 1).topk(5, dim=1)
    put("kl.logits", logits)
    put("kl.teacher", teacher)
    put("kl.ids", top.indices)
    put("kl.log_probs", top.values)

    def lump(log_p):
        listed = log_p.gather(1, top.indices)
        rest = torch.log((1 - torch.zeros_like(log_p).scatter(1, top.indices, 1)) *
                         log_p.exp() + 1e-300).logsumexp(1, keepdim=True)
        return torch.cat([listed, rest], 1)

    for kind, f in dict(full=lambda x: x, top=lump).items():
        for direction in "forward", "reverse":
            student = logits.detach().clone().requires_grad_()
            p, q = f(torch.log_softmax(teacher / t, 1)), f(torch.log_softmax(student / t, 1))
            if direction == "reverse":
                p, q = q, p
            kl = weights * t * t * (p.exp() * (p - q)).sum(1)
            (0.25 * kl.sum()).backward()
            put(f"kl.{kind}.{direction}.losses", kl)
            put(f"kl.{kind}.{direction}.grad", student.grad)


def experts(score):
    tokens, width, hidden, count, top_k = 9, 5, 4, 4, 2
    x, dy = leaf(tokens, width), rand(tokens, width)
    logits, bias = leaf(tokens, count), 0.3 * rand(count)
    gate, up, down = leaf(count, hidden, width), leaf(count, hidden, width), \
        leaf(count, width, hidden)
    s = torch.sigmoid(logits) if score == "sigmoid" else torch.softmax(logits, 1)
    ids = (s + bias).topk(top_k, dim=1).indices
    weights = s.gather(1, ids)
    if score == "sigmoid":
        weights = weights / weights.sum(1, keepdim=True)
    weights = weights * 2.5
    weights.retain_grad()
    y = 0
    for j in range(top_k):
        e = ids[:, j]
        h = F.silu(torch.einsum("tfd,td->tf", gate[e], x)) * torch.einsum("tfd,td->tf", up[e], x)
        y = y + weights[:, j:j + 1] * torch.einsum("tdf,tf->td", down[e], h)
    (y * dy).sum().backward()
    for name, t in dict(x=x, dy=dy, logits=logits, bias=bias, gate=gate, up=up, down=down, ids=ids,
                        weights=weights, y=y, dx=x.grad, dweights=weights.grad,
                        dlogits=logits.grad, dgate=gate.grad, dup=up.grad,
                        ddown=down.grad).items():
        put(f"moe.{score}.{name}", t)

    logits.grad, loss = None, 0
    s = torch.sigmoid(logits) if score == "sigmoid" else torch.softmax(logits, 1)
    for first, n in (0, 4), (4, 5):
        part = s[first:first + n]
        chosen = F.one_hot(part.topk(top_k, dim=1).indices, count).sum(1).double()
        f = count / (top_k * n) * chosen.sum(0)
        loss = loss + 0.01 * (f * (part / part.sum(1, keepdim=True)).mean(0)).sum()
    (0.5 * loss).backward()
    put(f"balance.{score}.loss", loss)
    put(f"balance.{score}.dlogits", logits.grad)


def optimizers():
    w = torch.nn.Parameter(torch.randn(37))
    put("adamw.w", w)
    opt = torch.optim.AdamW([w], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    grads = torch.randn(10, 37)
    put("adamw.grads", grads)
    for g in grads:
        w.grad = g.clone()
        opt.step()
    put("adamw.out", w)

    def newton_schulz(x, steps=5):
        tall = x.shape[0] > x.shape[1]
        x = x.T if tall else x
        x = x / (x.norm() + 1e-7)
        for _ in range(steps):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x.T if tall else x

    for shape in (6, 10), (12, 5):
        name = f"muon.{shape[0]}x{shape[1]}"
        w, buf, grads = rand(*shape), torch.zeros(*shape).double(), rand(3, *shape)
        put(name + ".w", w)
        put(name + ".grads", grads)
        for g in grads:
            buf = buf + (1 - 0.95) * (g - buf)
            u = newton_schulz(g + 0.95 * (buf - g))
            w = w * (1 - 0.02 * 0.1) - 0.02 * max(1, shape[0] / shape[1]) ** 0.5 * u
        put(name + ".out", w)


torch.manual_seed(7)
attention()
rows()
losses()
experts("sigmoid")
experts("softmax")
optimizers()
OUT.parent.mkdir(exist_ok=True)
OUT.write_text("\n".join(lines) + "\n")
