// Content of a player that stands inside the page of a site: the page around it has it ready.
if (parent !== window && parent.playerContent) document.getElementById("packed").textContent = parent.playerContent;
if (JSON.parse(document.getElementById("packed").textContent).ids.length < 2) document.documentElement.classList.add("single");
