/** What the page says of itself in a word: whether it is told what moves, and whether it could be read anew. */
export interface Word {
  connected(isSo: boolean): void;
  read(isSo: boolean): void;
}

/** Nothing is said before the first connection. */
export function createWord(element: HTMLElement | null): Word {
  let isConnected: boolean | null = null;
  let isRead = true;

  function say(): void {
    if (element === null || isConnected === null) return;
    const text = !isConnected ? 'reconnecting' : isRead ? 'live' : 'not up to date';
    if (element.textContent === text) return;
    element.textContent = text;
    element.className = text === 'live' ? 'on' : 'off';
  }
  return {
    connected(isSo) {
      isConnected = isSo;
      say();
    },
    read(isSo) {
      isRead = isSo;
      say();
    },
  };
}
