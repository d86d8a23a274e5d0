// What the page asks of the endpoint, and a refusal of it in one line with what to do about it.

const SEE_KEY = "To see it: python -m setup compare --print-key"

export class Refusal extends Error {
  constructor(line, isAboutKey = false) {
    super(line)
    this.isAboutKey = isAboutKey
  }
}

async function call(path, key, body, signal) {
  const headers = { Authorization: `Bearer ${key}` }
  const options = { headers, signal, cache: "no-store", credentials: "omit", redirect: "error" }
  if (body) {
    headers["Content-Type"] = "application/json"
    Object.assign(options, { method: "POST", body: JSON.stringify(body) })
  }
  let reply
  try {
    reply = await fetch(path, options)
  } catch (error) {
    throw unreachable(error)
  }
  if (!reply.ok) throw await refusal(reply)
  return reply
}

function unreachable(error) {
  if (error.name === "AbortError") return error
  return new Refusal("The endpoint does not answer. Start it with: python -m setup deploy")
}

async function refusal(reply) {
  let message = `it answered ${reply.status}`
  try {
    message = (await reply.json()).error.message
  } catch { /* not ours, such as a proxy's page */ }
  const wait = reply.headers.get("Retry-After")
  const again = wait ? `in ${wait} s` : "in a moment"
  if (reply.status === 401) return new Refusal(`This is not the key of the endpoint. ${SEE_KEY}`, true)
  if (reply.status === 429)
    return new Refusal(`Too many requests: ${message}. Try again ${again}, or give it more: endpoint.slots`)
  if (reply.status === 503) return new Refusal(`${capital(message)}. Try again ${again}, or see: python -m setup logs`)
  if (reply.status === 413) return new Refusal(`${capital(message)}. Ask less at once, or set endpoint.max_body`)
  return new Refusal(`${capital(message)}.`)
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

export function isKey(text) {
  // A header takes nothing else, and no key has anything else.
  return /^[\x21-\x7e]+$/.test(text)
}

export async function readModels(key) {
  const [endpoint, ...deployments] = (await (await call("/v1/models", key)).json()).data
  return { endpoint: endpoint.id, deployments: deployments.map((model) => model.id) }
}

export async function readCollecting(key, signal) {
  return (await call("/feedback", key, null, signal)).json()
}

export async function rate(key, rating) {
  await call("/feedback", key, rating)
}

// The answer as it comes: {text} for each piece, then {id, finish, tokens}.
export async function* ask(key, body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } }
  const reply = await call("/v1/chat/completions", key, asked, signal)
  const end = { id: "", finish: "", tokens: 0 }
  try {
    for await (const line of lines(reply.body)) {
      if (!line.startsWith("data: {")) continue
      const event = JSON.parse(line.slice(6))
      if (event.error) throw new Refusal(`The answer broke off: ${event.error.message}`)
      end.id ||= event.id
      end.tokens = event.usage?.completion_tokens ?? end.tokens
      const choice = event.choices?.[0]
      end.finish = choice?.finish_reason ?? end.finish
      if (choice?.delta?.content) yield { text: choice.delta.content }
    }
  } catch (error) {
    throw error instanceof TypeError ? unreachable(error) : error
  }
  if (!end.finish) throw new Refusal("The answer broke off: the endpoint went away. See: python -m setup logs")
  yield end
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ""
  for (let step; !(step = await reader.read()).done;) {
    const whole = (rest + step.value).split("\n")
    rest = whole.pop()
    yield* whole
  }
}
