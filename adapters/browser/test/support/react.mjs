// React in a DOM without a browser, and a world of sockets for its components.

import { Window } from 'happy-dom';
import { World } from './world.mjs';

// React looks for a DOM when it is loaded. Events stay Node's, as those of the sockets are.
const dom = new Window();
globalThis.window = dom;
globalThis.document = dom.document;
globalThis.navigator ??= dom.navigator;
globalThis.IS_REACT_ACT_ENVIRONMENT = true;
const React = await import('react');
const { createRoot, hydrateRoot } = await import('react-dom/client');
const { renderToString } = await import('react-dom/server');
const { useResumableSocket, useSession } = await import('../../js/react.js');

export { React, renderToString, useResumableSocket, useSession };
export const { act, createElement: h } = React;

/** A page in which components are rendered. */
export class Stage {
  taken = [];
  world = new World(1, { onMessage: (data) => this.taken.push(data) });
  page = this.world.page();
  /** How many sockets were made. */
  made = 0;
  /** What React has told of errors, caught or not. */
  errors = [];
  #container = dom.document.createElement('div');
  #root;

  /** What each socket is made with. */
  get options() {
    const { clientId, ...env } = this.world.env(this.page);
    return { transports: ['websocket'], env: { ...env, clientId: () => (this.made++, clientId()) } };
  }

  /** The WebSockets that were opened, oldest first. */
  get links() {
    return this.page.links ?? [];
  }

  get text() {
    return this.#container.textContent;
  }

  /** Renders, and lets the world go on until connections are open. */
  async render(element) {
    await act(async () => {
      this.#root ??= createRoot(this.#container, this.#hooks);
      this.#root.render(element);
    });
    await this.pass();
  }

  /** Puts a server's HTML in the page, and lets React take it over. */
  async hydrate(html, element) {
    this.#container.innerHTML = html;
    await act(async () => {
      this.#root = hydrateRoot(this.#container, element, this.#hooks);
    });
    await this.pass();
  }

  /** Renders as React does what is not urgent: in parts, between which anything may happen. */
  async renderInParts(element) {
    await act(async () => React.startTransition(() => this.#root.render(element)));
  }

  async unmount() {
    await act(async () => this.#root.unmount());
    await this.pass();
  }

  /** Lets time pass, with what promises do in between. */
  async pass(ms = 100) {
    for (let part = 0; part < 10; part++) {
      await act(async () => {
        await new Promise(setImmediate);
        this.world.advance(ms / 10);
      });
    }
  }

  get #hooks() {
    const tell = (error) => void this.errors.push(error);
    return { onUncaughtError: tell, onCaughtError: tell, onRecoverableError: tell };
  }
}
