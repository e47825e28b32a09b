{
  // A mistake in the confusion matrix chooses the images below.
  const buttons = [...document.querySelectorAll('.confusion button')];
  const images = [...document.querySelectorAll('.wrong li')];
  const count = document.getElementById('count');
  const everything = count.textContent;
  const all = document.querySelector('.all');
  const choose = (button) => {
    for (const one of buttons) {
      one.setAttribute('aria-pressed', String(one === button));
    }
    let visible = 0;
    for (const image of images) {
      image.hidden = button !== null &&
          (image.dataset.true !== button.dataset.true ||
           image.dataset.predicted !== button.dataset.predicted);
      visible += !image.hidden;
    }
    all.hidden = button === null;
    count.textContent = button === null ? everything :
        'A ' + button.dataset.true + ' taken for a ' +
        button.dataset.predicted + ': ' + visible + ' of ' +
        button.textContent + ' shown.';
  };
  for (const button of buttons) {
    button.addEventListener('click', () => {
      const again = button.getAttribute('aria-pressed') === 'true';
      choose(again ? null : button);
    });
  }
  all.addEventListener('click', () => choose(null));
}
