// A page with a chat of the AI SDK: React, its DOM and `useChat` as they come from npm, in Node.
import { Window } from "happy-dom";

// React looks for a DOM when it is loaded.
const dom = new Window({ url: "http://localhost/" });
globalThis.window = dom;
globalThis.document = dom.document;
globalThis.navigator ??= dom.navigator;
const { createElement: h, StrictMode } = await import("react");
const { createRoot } = await import("react-dom/client");
const { useChat } = await import("@ai-sdk/react");
const { DefaultChatTransport } = await import("ai");

/** A browser: its cookies, which all its pages have. */
export class Browser {
  #cookie = "";

  /** `fetch` of a page of this server. */
  async fetch(url, init) {
    const headers = new Headers(init.headers);
    headers.set("origin", new URL(url).origin);
    if (this.#cookie) headers.set("cookie", this.#cookie);
    const answer = await fetch(url, { ...init, headers });
    for (const cookie of answer.headers.getSetCookie()) this.#cookie = cookie.split(";")[0];
    return answer;
  }
}

export class Page {
  /** The statuses of the answers that it has had, oldest first: `GET 204`. */
  answers = [];
  /** What `useChat` has returned last. */
  chat;
  #container = dom.document.createElement("main");
  #root = createRoot(this.#container);
  #gone = new AbortController();

  /** Opens the chat `id`; `messages` is what the application has kept of it. */
  constructor({ browser, base, id, messages = [] }) {
    const transport = new DefaultChatTransport({
      api: `${base}/api/chat`,
      fetch: async (url, init) => {
        const signals = [this.#gone.signal, init.signal].filter(Boolean);
        const answer = await browser.fetch(url, { ...init, signal: AbortSignal.any(signals) });
        this.answers.push(`${init.method} ${answer.status}`);
        return answer;
      },
    });
    const Chat = () => {
      this.chat = useChat({ id, messages, transport, resume: true });
      const text = ({ parts }) => parts.map((part) => part.text ?? "").join("|");
      return this.chat.messages.map((message, at) => h("p", { key: at }, `${message.role}: ${text(message)}`));
    };
    // As in development: each effect runs twice.
    this.#root.render(h(StrictMode, null, h(Chat)));
  }

  /** What the user sees. */
  get shown() {
    return [...this.#container.children].map((line) => line.textContent);
  }

  get status() {
    return this.chat?.status;
  }

  /** What an application keeps of the chat. */
  get kept() {
    return structuredClone(this.chat.messages);
  }

  say(text) {
    void this.chat.sendMessage({ text });
  }

  /** The browser leaves the page, and what it is loading. */
  leave() {
    this.#root.unmount();
    this.#gone.abort();
  }
}
