// Chromium by Playwright.

import { chromium } from 'playwright-core';

/** A host that is not this machine by its name: there a browser's word on the network counts. */
export const elsewhere = 'page.test';

const ARGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  `--host-resolver-rules=MAP ${elsewhere} 127.0.0.1`, '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ARGS,
    // Playwright turns the back-forward cache off.
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
  });
