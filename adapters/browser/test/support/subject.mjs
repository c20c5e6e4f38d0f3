// What the socket's tests are about: the sources, or with `DIST=1` the bundle.

export const { ResumableSocket } = await import(process.env.DIST ? '../../dist/session-resume.js' : '../../js/index.js');
