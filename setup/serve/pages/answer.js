// An answer on the page: its text as it comes, and what is said of it.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made && key !== "list") made[key] = value
    else made.setAttribute(key, value)
  }
  made.append(...children)
  return made
}

const SVG = "http://www.w3.org/2000/svg"
const THUMB = "M2 10h4v11H2z M8 21h9c1.5 0 2.3-.8 2.6-2l1.8-7c.3-1.3-.6-2.5-2-2.5H14l.7-4.2C15 3.6 14 2 12.5 2L8 10z"

// Drawn, because not every machine has a font with thumbs.
function thumbSign(rating) {
  const sign = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "path")
  sign.setAttribute("viewBox", "0 0 24 24")
  sign.setAttribute("class", `thumb ${rating}`)
  sign.setAttribute("aria-hidden", "true")
  path.setAttribute("d", THUMB)
  sign.append(path)
  return sign
}

function said({ rating = null, comment = "", correction = "" }) {
  return { rating, comment, correction }
}

// `answer` is its state, which is kept over a reload: deployment, messages, text, id, finish, error,
// rating, comment, correction, and a draft of these two. `send` sends a rating; `retry` asks again;
// `save` keeps the state.
export class AnswerCard {
  constructor(answer, question, { isKept, send, retry, save }) {
    this.answer = answer
    this.send = send
    this.save = save
    this.held = said(answer) // as the endpoint has it
    this.sending = Promise.resolve()
    this.waiting = 0
    this.text = element("p", { className: "text", dir: "auto" })
    this.about = element("p", { className: "about" })
    this.problem = element("p", { className: "problem", hidden: true })
    this.again = element("button", {
      type: "button", textContent: "Ask again", "aria-label": `Ask again, ${answer.deployment}`, hidden: true, onclick: retry,
    })
    const label = `Answer of ${answer.deployment}`
    this.root = element("article", { className: "answer", tabIndex: -1, "aria-label": label },
      element("h2", { textContent: answer.deployment }), this.text, this.problem, this.again, this.about)
    this.root.append(this.feedback(isKept, question))
    this.show()
  }

  feedback(isKept, question) {
    const of = `${this.answer.deployment}: ${question.slice(0, 60)}`
    const thumb = (rating, meaning) => element("button", {
      type: "button", "aria-label": `${meaning}, ${of}`, title: meaning,
      onclick: () => this.rate({ rating: this.answer.rating === rating ? null : rating }),
    }, thumbSign(rating))
    this.up = thumb("up", "Good answer")
    this.down = thumb("down", "Bad answer")
    const { draft = {}, comment = "", correction = "" } = this.answer
    this.comment = element("textarea", { rows: 2, maxLength: 10000, value: draft.comment ?? comment })
    this.correction = element("textarea", { rows: 3, value: draft.correction ?? correction })
    this.kept = element("span", { className: "about", role: "status" })
    this.more = element("div", { className: "more", hidden: true },
      element("label", {}, "Comment", this.comment),
      element("label", {}, "The answer as it should be", this.correction),
      element("button", { type: "button", textContent: "Save", "aria-label": `Save, ${of}`, onclick: () => this.saveMore() }))
    this.more.addEventListener("input", () => {
      this.answer.draft = { comment: this.comment.value, correction: this.correction.value }
    })
    this.more.addEventListener("change", this.save)
    this.toggle = element("button", {
      type: "button", textContent: "Comment or correct", "aria-expanded": "false", "aria-label": `Comment or correct, ${of}`,
      onclick: () => this.open(this.more.hidden),
    })
    this.controls = [this.up, this.down, this.toggle]
    this.isKept = isKept
    return element("div", {}, element("div", { className: "row" }, ...this.controls, this.kept), this.more)
  }

  open(isOpen) {
    this.more.hidden = !isOpen
    this.toggle.setAttribute("aria-expanded", String(isOpen))
    if (isOpen) this.comment.focus()
  }

  async saveMore() {
    const texts = { comment: this.comment.value.trim(), correction: this.correction.value.trim() }
    if (await this.rate(texts)) {
      delete this.answer.draft
      this.save()
      this.open(false)
      this.toggle.focus()
    }
  }

  // One after another, so that the last one said is the last one kept.
  rate(change) {
    Object.assign(this.answer, change)
    this.show()
    const wish = { ...this.answer }
    this.waiting += 1
    this.sending = this.sending.then(() => this.deliver(wish))
    return this.sending
  }

  async deliver(wish) {
    let problem = ""
    try {
      await this.send(wish)
      this.held = said(wish)
    } catch (error) {
      problem = error.message
    }
    this.waiting -= 1
    if (this.waiting) return !problem // what was said since then is on its way
    Object.assign(this.answer, this.held)
    this.show()
    if (problem) this.say(problem)
    this.kept.textContent = problem ? "" : Object.values(this.held).some(Boolean) ? "kept" : "taken back"
    this.save()
    return !problem
  }

  keep(isKept) {
    this.isKept = isKept
    this.show()
  }

  // What became of it, for those who hear the page.
  get outcome() {
    const { deployment, error, finish } = this.answer
    if (error) return `${deployment}: ${error}`
    return `${deployment} ${finish === "stopped" ? "was stopped" : "answered"}.`
  }

  add(piece) {
    this.answer.text += piece
    this.text.textContent = this.answer.text
  }

  say(line) {
    this.problem.textContent = line
    this.problem.hidden = !line
  }

  show() {
    const { text, error, finish, tokens, rating, isRunning } = this.answer
    this.text.textContent = text
    this.say(error ?? "")
    this.again.hidden = !(error || finish === "stopped") || Boolean(isRunning)
    this.root.setAttribute("aria-busy", String(Boolean(isRunning)))
    const ends = { length: `cut at ${tokens} tokens: raise "Most tokens"`, stopped: "stopped", stop: `${tokens} tokens` }
    this.about.textContent = ends[finish] ?? finish ?? ""
    this.about.hidden = !this.about.textContent
    for (const control of this.controls) control.disabled = !this.isKept || isRunning || !this.answer.id || Boolean(error)
    this.up.setAttribute("aria-pressed", String(rating === "up"))
    this.down.setAttribute("aria-pressed", String(rating === "down"))
  }
}
