// The page: one question to two deployments, side by side. Key and conversation stay in this tab.

import { AnswerCard, element } from "./answer.js"
import { ask, isKey, rate, readCollecting, readModels, Refusal } from "./endpoint.js"

const at = (id) => document.getElementById(id)
const KEY = "finetune-phi key", STATE = "finetune-phi compare"
const SETTINGS = ["system", "temperature", "top_p", "max_tokens", "seed"]
const TOO_LONG = "The conversation is too long to be there after a reload."
const REFUSED_KEY = "A key is made of letters, digits and signs, without spaces. To see it: python -m setup compare --print-key"

let key = sessionStorage.getItem(KEY) ?? ""
let state = { conversation: newId(), sides: [], exchanges: [], settings: {} }
let collecting = { collect: "none" }
let running = null // aborts what is asked; several may be, and `asked` counts them
let asked = 0

function newId() {
  return "page-" + [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("")
}

function save() {
  state.settings = Object.fromEntries(SETTINGS.map((name) => [name, at(name).value]))
  try {
    sessionStorage.setItem(STATE, JSON.stringify(state))
    if (at("problem").textContent === TOO_LONG) say("")
  } catch {
    say(TOO_LONG)
  }
}

function restore() {
  try {
    state = { ...state, ...JSON.parse(sessionStorage.getItem(STATE) ?? "{}") }
  } catch { /* of another version */ }
  for (const name of SETTINGS) if (name in state.settings) at(name).value = state.settings[name]
  for (const { answers } of state.exchanges) {
    for (const answer of answers.filter((one) => one.isRunning)) {
      Object.assign(answer, { isRunning: false, error: "The page was loaded anew before the answer was whole." })
    }
  }
}

function say(line) {
  at("problem").textContent = line
  at("problem").hidden = !line
}

function askForKey(line) {
  running?.abort()
  key = ""
  sessionStorage.removeItem(KEY)
  at("bench").hidden = at("forget").hidden = true
  at("key-form").hidden = false
  at("key").value = ""
  say(line)
  at("key").focus()
}

async function connect() {
  at("key").readOnly = true
  try {
    const [models, mode] = await Promise.all([readModels(key), readCollecting(key)])
    sessionStorage.setItem(KEY, key)
    collecting = mode
    showBench(models)
  } catch (error) {
    if (error.isAboutKey) return askForKey(error.message)
    if (!(error instanceof Refusal)) throw error
    at("key-form").hidden = false
    at("key").value = key
    say(error.message)
  } finally {
    at("key").readOnly = false
  }
}

function showBench({ endpoint, deployments }) {
  say("")
  at("key-form").hidden = true
  at("bench").hidden = at("forget").hidden = false
  at("endpoint").textContent = endpoint
  const known = state.sides.length && state.sides.every((name) => deployments.includes(name))
  if (!known || (!state.exchanges.length && state.sides.length < 2)) state.sides = deployments.slice(0, 2)
  const hasGone = !known && state.exchanges.length > 0
  if (hasGone) startAnew()
  if (hasGone) say("A new conversation: a deployment that the one before asked is not here any more.")
  for (const [place, name] of ["left", "right"].entries()) {
    at(name).replaceChildren(...deployments.map((text) => element("option", { textContent: text, value: text })))
    at(name).value = state.sides[place] ?? ""
    at(name).parentElement.hidden = place >= deployments.length
  }
  at("send").textContent = state.sides.length === 2 ? "Ask both" : "Ask"
  at("send").disabled = !deployments.length
  showNotice(deployments)
  at("exchanges").replaceChildren(...state.exchanges.map(exchangeElement))
  showChoice()
  at("question").focus()
}

const KEEPS = ["none", "feedback", "conversations"] // each more than the one before

// What is kept now: the endpoint may be another one than when the page was opened.
async function readMode(signal) {
  const before = collecting
  try {
    collecting = await readCollecting(key, signal)
  } catch {
    return // the next question will tell what is wrong
  }
  if (collecting.collect === before.collect && collecting.full === before.full) return
  showNotice(shownDeployments())
  for (const { cards } of at("exchanges").children) for (const card of cards) card.keep(collecting.collect !== "none")
}

// Where more is kept than the page has said, nothing is asked before the reader has seen it.
async function mayAsk(signal) {
  const before = KEEPS.indexOf(collecting.collect)
  await readMode(signal)
  if (KEEPS.indexOf(collecting.collect) <= before) return true
  say(`Nothing is asked yet, for this has changed: ${at("notice").textContent} To go on, ask again.`)
  return false
}

function shownDeployments() {
  return at("notice").dataset.deployments?.split(" ").filter(Boolean) ?? []
}

function showNotice(deployments) {
  const lines = {
    none: "Ratings are off, nothing is kept: to keep them, python -m setup stop, then python -m setup deploy --set endpoint.collect=feedback.",
    feedback: "Answers that you rate are kept on the endpoint's machine, with what was said before them.",
    conversations: "All conversations with this endpoint are kept on its machine, and your ratings.",
  }
  const parts = [lines[collecting.collect] ?? `This endpoint collects ${collecting.collect}.`]
  if (collecting.full) parts.push("But the feedback file is full: nothing more is kept. Raise endpoint.collect_limit, or delete some.")
  if (collecting.collect !== "none") parts.push(`To delete this one: python -m setup feedback --delete ${state.conversation}`)
  if (deployments.length === 1) parts.push(`Only one deployment is here, ${deployments[0]}: to have another one beside it, python -m setup up.`)
  if (!deployments.length) parts.push("No deployment is here: python -m setup deploy.")
  at("notice").textContent = parts.join(" ")
  at("notice").dataset.deployments = deployments.join(" ")
}

// Whom to ask is chosen before the first question: an answer belongs to what was said before it.
function showChoice() {
  for (const name of ["left", "right"]) {
    at(name).disabled = state.exchanges.length > 0
    at(name).title = state.exchanges.length ? "A new conversation can have others" : ""
  }
}

function startAnew() {
  running?.abort()
  state = { ...state, conversation: newId(), exchanges: [] }
  at("exchanges").replaceChildren()
  showNotice(shownDeployments())
  showChoice()
  save()
  readMode()
  at("question").focus()
}

function exchangeElement(exchange) {
  const { conversation } = state // a rating that comes late is of this one
  const cards = exchange.answers.map((answer) => {
    const card = new AnswerCard(answer, exchange.question, {
      isKept: collecting.collect !== "none", send: (said) => sendRating(said, conversation), save,
      retry: () => askAgain(card),
    })
    return card
  })
  const question = element("p", { className: "question", dir: "auto", textContent: exchange.question })
  const root = element("section", { className: "exchange", "aria-label": "Question and answers" },
    question, element("div", { className: "answers" }, ...cards.map((card) => card.root)))
  root.cards = cards
  return root
}

function sendRating(answer, conversation) {
  const { id, deployment, messages, text, rating = null, comment = "", correction = "" } = answer
  return rate(key, { id, deployment, messages, answer: text, rating, comment, correction, conversation_id: conversation })
}

async function askQuestion() {
  const question = at("question").value
  if (!question.trim() || running || at("send").disabled) return
  const invalid = SETTINGS.map(at).find((field) => !field.checkValidity())
  if (invalid) {
    at("settings").open = true
    invalid.reportValidity()
    return
  }
  say("")
  const { signal } = begin()
  if (!(await mayAsk(signal)) || signal.aborted) return end([])
  const answers = state.sides.map((deployment, side) => (
    { deployment, messages: messagesFor(side, question), text: "" }))
  const exchange = { question, answers }
  state.exchanges.push(exchange)
  at("question").value = ""
  const root = exchangeElement(exchange)
  at("exchanges").append(root)
  showChoice()
  root.scrollIntoView({ block: "end" })
  await Promise.all(root.cards.map((card) => stream(card, signal)))
  end(root.cards)
}

// One side alone, also while another is asked.
async function askAgain(card) {
  say("")
  const { signal } = begin()
  card.root.focus() // the button that had it goes
  if ((await mayAsk(signal)) && !signal.aborted) await stream(card, signal)
  end([card])
}

function begin() {
  asked += 1
  if (!running || running.signal.aborted) running = new AbortController()
  at("stop").hidden = false
  at("send").setAttribute("aria-disabled", "true") // disabled it would lose the focus
  at("said").textContent = "asking"
  return running
}

function end(cards) {
  save()
  asked -= 1
  at("said").textContent = cards.map((card) => card.outcome).join(" ")
  if (asked) return
  running = null
  if (document.activeElement === at("stop")) at("send").focus()
  at("stop").hidden = true
  at("send").removeAttribute("aria-disabled")
}

// What a side has said and heard. Questions that it did not answer are left out.
function messagesFor(side, question) {
  const messages = at("system").value.trim() ? [{ role: "system", content: at("system").value }] : []
  for (const exchange of state.exchanges) {
    const { text, error } = exchange.answers[side]
    if (error || !text) continue
    messages.push({ role: "user", content: exchange.question }, { role: "assistant", content: text })
  }
  return [...messages, { role: "user", content: question }]
}

async function stream(card, signal) {
  const answer = card.answer
  Object.assign(answer, { text: "", id: "", finish: "", error: "", isRunning: true })
  card.show()
  save()
  try {
    for await (const part of ask(key, bodyOf(answer), signal)) {
      if (part.text) card.add(part.text)
      else Object.assign(answer, part)
    }
  } catch (error) {
    if (error.name === "AbortError") answer.finish = "stopped"
    else answer.error = error.message
    if (error.isAboutKey) askForKey(error.message)
  }
  if (!answer.text && !answer.error && answer.finish !== "stopped") answer.error = "The answer is empty."
  answer.isRunning = false
  card.show()
}

function bodyOf({ deployment, messages }) {
  const body = { model: deployment, messages, metadata: { conversation_id: state.conversation } }
  for (const name of SETTINGS.slice(1)) if (at(name).value !== "") body[name] = Number(at(name).value)
  return body
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault()
  key = at("key").value.trim()
  if (isKey(key)) connect()
  else askForKey(REFUSED_KEY)
})
at("forget").addEventListener("click", () => askForKey(""))
at("ask").addEventListener("submit", (event) => {
  event.preventDefault()
  askQuestion()
})
at("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return
  event.preventDefault()
  askQuestion()
})
document.addEventListener("keydown", (event) => event.key === "Escape" && running?.abort())
at("stop").addEventListener("click", () => running?.abort())
at("new").addEventListener("click", startAnew)
for (const [place, name] of ["left", "right"].entries()) {
  at(name).addEventListener("change", () => {
    state.sides[place] = at(name).value
    save()
  })
}
for (const name of SETTINGS) at(name).addEventListener("change", save)

restore()
if (key) connect()
else askForKey("")
