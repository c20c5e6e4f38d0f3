//! What happens to a session that the node owns, apart from the engine's answers.

use super::{Ask, Clean, Course, Hold, Leave};
use crate::ownership::{Command, Event, Ownership, Refusal, Standing, State, planted};

impl Ownership {
    pub(in crate::ownership) fn own_event(&mut self, event: Event, standing: Standing) {
        let State::Owned(owned) = &mut self.state else {
            return;
        };
        match (event, owned.course) {
            (Event::Built, Course::Building) => {
                owned.course = Course::Serving;
                if standing.drains {
                    owned.course = Course::Freezing(Leave::Drain);
                    self.commands.push_back(Command::Freeze);
                }
                if owned.hold == Hold::Held {
                    self.serve_asked(standing);
                } else {
                    self.visits.ask_again();
                    self.commands.push_back(Command::Silence);
                }
            }
            (Event::CannotBuild, Course::Building) => {
                owned.course = Course::Breaking(Ask::DUE);
                self.refuse(Refusal::Broken, |guest| guest.is_open());
            }
            (Event::Leave(why), Course::Serving | Course::Freezing(_)) => {
                owned.course = Course::Freezing(why);
                self.commands.push_back(Command::Freeze);
            }
            (Event::Leave(why), Course::Thawing { clean }) => {
                owned.course = Course::Leaving(why, Clean::Before(clean));
                self.commands.push_back(Command::Save);
            }
            (Event::AtBoundary, Course::Freezing(why)) => {
                owned.course = Course::Leaving(why, Clean::Not);
                self.commands.push_back(Command::Save);
            }
            (Event::Stay, Course::Freezing(_) | Course::Leaving(_, Clean::Not)) => {
                owned.course = Course::Serving;
                if owned.hold == Hold::Held {
                    self.commands.push_back(Command::Thaw);
                }
            }
            (
                Event::Stay,
                Course::Leaving(
                    _,
                    Clean::Before(clean) | Clean::Out(clean) | Clean::Unknown(clean),
                ),
            ) => {
                owned.course = Course::Thawing { clean };
                self.commands.push_back(Command::Save);
            }
            (
                Event::Overdue,
                Course::Serving
                | Course::Freezing(_)
                | Course::Leaving(..)
                | Course::Thawing { .. },
            ) => {
                if owned.may_speak(standing) {
                    self.commands.push_back(Command::Silence);
                }
                let why = match owned.course {
                    Course::Freezing(why) | Course::Leaving(why, _) => why,
                    _ => Leave::Drain,
                };
                owned.course = Course::Releasing(why, Ask::DUE);
            }
            (
                Event::Finished,
                Course::Serving
                | Course::Freezing(_)
                | Course::Leaving(..)
                | Course::Thawing { .. },
            ) => {
                owned.course = Course::Ending { clean: owned.course.clean(), end: None };
                self.commands.push_back(Command::Save);
            }
            (Event::Resumed, _) if !planted!(self, NoReput) => {
                self.commands.push_back(Command::Save);
            }
            _ => {}
        }
    }
}
