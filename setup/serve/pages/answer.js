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

// `answer` is its state, which is kept over a reload: deployment, messages, text, id, finish, error,
// rating, comment, correction. `send` sends a rating; `retry` asks again; `save` keeps the state.
export class AnswerCard {
  constructor(answer, question, { isKept, send, retry, save }) {
    this.answer = answer
    this.send = send
    this.save = save
    this.text = element("p", { className: "text", dir: "auto" })
    this.about = element("p", { className: "about" })
    this.problem = element("p", { className: "problem", hidden: true })
    this.again = element("button", { type: "button", textContent: "Ask again", hidden: true, onclick: retry })
    const label = `Answer of ${answer.deployment}`
    this.root = element("article", { className: "answer", "aria-label": label },
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
    this.comment = element("textarea", { rows: 2, maxLength: 10000 })
    this.correction = element("textarea", { rows: 3 })
    this.kept = element("span", { className: "about", role: "status" })
    this.more = element("div", { className: "more", hidden: true },
      element("label", {}, "Comment", this.comment),
      element("label", {}, "The answer as it should be", this.correction),
      element("button", { type: "button", textContent: "Save", onclick: () => this.saveMore() }))
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
    if (!isOpen) return
    this.comment.value = this.answer.comment ?? ""
    this.correction.value = this.answer.correction ?? ""
    this.comment.focus()
  }

  async saveMore() {
    const said = { comment: this.comment.value.trim(), correction: this.correction.value.trim() }
    if (await this.rate(said)) {
      this.open(false)
      this.toggle.focus()
    }
  }

  async rate(said) {
    const before = { rating: this.answer.rating, comment: this.answer.comment, correction: this.answer.correction }
    Object.assign(this.answer, said)
    this.show()
    try {
      await this.send(this.answer)
      const isNothing = !this.answer.rating && !this.answer.comment && !this.answer.correction
      this.kept.textContent = isNothing ? "taken back" : "kept"
      this.save()
      return true
    } catch (error) {
      Object.assign(this.answer, before)
      this.kept.textContent = ""
      this.show()
      this.say(error.message)
      return false
    }
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
    this.again.hidden = !error || Boolean(isRunning)
    this.root.setAttribute("aria-busy", String(Boolean(isRunning)))
    const ends = { length: `cut at ${tokens} tokens: raise "Most tokens"`, stopped: "stopped by you", stop: `${tokens} tokens` }
    this.about.textContent = ends[finish] ?? finish ?? ""
    this.about.hidden = !this.about.textContent
    for (const control of this.controls) control.disabled = !this.isKept || isRunning || !this.answer.id || Boolean(error)
    this.up.setAttribute("aria-pressed", String(rating === "up"))
    this.down.setAttribute("aria-pressed", String(rating === "down"))
  }
}
